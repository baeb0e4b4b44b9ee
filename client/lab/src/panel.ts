/** The panel above the status bar: what limits the server, its device and budget, notices, and the button to extend. */

import { Widget } from '@lumino/widgets';

import { deviceText } from './item';
import type { Session } from './session';
import { amount, clock, instant, length, say, type Word } from './words';

export class Panel extends Widget {
  constructor(
    private session: Session,
    private extend: () => Promise<void>,
    portalUrl: string
  ) {
    super();
    this.addClass('mudeung-Panel');
    this.node.setAttribute('role', 'dialog');
    this.node.tabIndex = -1;
    this._button.type = 'button';
    this._button.className = 'jp-mod-styled jp-mod-accept mudeung-Panel-extend';
    this._button.addEventListener('click', () => void this._extend());
    this._link.href = portalUrl;
    this._link.target = '_blank';
    this._link.rel = 'noopener';
    this._said.setAttribute('role', 'status');
    const buttons = document.createElement('div');
    buttons.className = 'mudeung-Panel-buttons';
    buttons.append(this._button, this._link);
    this.node.append(this._title, this._facts, this._notices, this._said, buttons);
    session.changed.connect(this._show, this);
    this._show();
  }

  override dispose(): void {
    this.session.changed.disconnect(this._show, this);
    super.dispose();
  }

  private async _extend(): Promise<void> {
    if (this._isAsking || this._button.getAttribute('aria-disabled') === 'true') {
      return;
    }
    this._isAsking = true;
    this._show();
    await this.extend();
    this._isAsking = false;
    if (!this.isDisposed) {
      this._show();
    }
  }

  private _show(): void {
    const { facts, language, left, state } = this.session;
    const isOpen = facts !== null && state !== 'ended';
    write(this._title, say(language, 'title'));
    this.node.lang = language;
    this.node.setAttribute('aria-label', say(language, 'title'));
    write(this._link, say(language, 'portal'));
    write(this._button, say(language, this._isAsking ? 'extending' : 'extend'));
    // Not `disabled`, which would take the focus away and hide from a screen reader that there is such a button.
    this._button.setAttribute('aria-disabled', String(!(isOpen && facts.can_extend) || this._isAsking));
    const rows: [Word, string][] = [];
    const notices: string[] = [];
    if (isOpen && left !== null) {
      const korean = language === 'ko';
      const stop = instant(language, facts.stop_at_seconds);
      const until = korean ? `${stop} ${say(language, 'until')}` : `${say(language, 'until')} ${stop}`;
      rows.push(['left', `${clock(language, left)} (${until})`]);
      rows.push(['limit', korean ? facts.limit_ko : facts.limit_en]);
      rows.push(['device', facts.device ? deviceText(language, facts.device, true) : say(language, 'none')]);
      const lasts = length(language, facts.budget.left_seconds);
      rows.push(['budget', `${amount(facts.budget.left_gflops_seconds)} (${say(language, 'onProfile')} ${lasts})`]);
      if (facts.paused !== null) {
        const since = instant(language, Date.parse(facts.paused.since) / 1000);
        rows.push(['paused', facts.paused.why ? `${since}: ${facts.paused.why}` : since]);
      }
      rows.push(['project', `${facts.project}, ${korean ? facts.profile_ko : facts.profile_en}`]);
      notices.push(...facts.notices.map(each => (korean ? each.text_ko : each.text_en)));
    }
    this._writeRows(rows.map(([word, text]) => [say(language, word), text]));
    this._writeNotices(say(language, 'notices'), notices);
    write(this._said, this._sentence());
  }

  private _sentence(): string {
    const { facts, language, state } = this.session;
    if (state === 'ended') {
      return say(language, 'endedWhy');
    }
    if (facts === null) {
      return say(language, state === 'away' ? 'awayWhy' : 'notKnownWhy');
    }
    const extending = language === 'ko' ? facts.extending_ko : facts.extending_en;
    return state === 'away' ? `${say(language, 'awayWhy')} ${extending}` : extending;
  }

  private _writeRows(rows: string[][]): void {
    const list = this._facts;
    while (list.children.length > rows.length * 2) {
      list.lastElementChild?.remove();
    }
    while (list.children.length < rows.length * 2) {
      list.append(document.createElement('dt'), document.createElement('dd'));
    }
    rows.flat().forEach((text, index) => write(list.children[index], text));
    list.hidden = rows.length === 0;
  }

  private _writeNotices(title: string, texts: string[]): void {
    const list = this._notices;
    while (list.children.length > texts.length) {
      list.lastElementChild?.remove();
    }
    while (list.children.length < texts.length) {
      list.append(document.createElement('li'));
    }
    texts.forEach((text, index) => write(list.children[index], text));
    list.setAttribute('aria-label', title);
    list.hidden = texts.length === 0;
  }

  private _title = document.createElement('h2');
  private _facts = document.createElement('dl');
  private _notices = document.createElement('ul');
  private _said = document.createElement('p');
  private _button = document.createElement('button');
  private _link = document.createElement('a');
  private _isAsking = false;
}

/** The text stands there; one that does already is left as it is. */
function write(element: Element, text: string): void {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}
