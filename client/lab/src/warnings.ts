/** Warnings before the end: each once, staying until it is read; at the last minute all documents are saved. */

import { Notification } from '@jupyterlab/apputils';

import { look, type IWarned } from './countdown';
import type { Session } from './session';
import { instant, length, say } from './words';

const SAVE_SECONDS = 60;
/** A page that nobody looks at is woken once a minute only. */
const SAVE_HIDDEN_SECONDS = 120;
const SAME_STOP_SECONDS = 60;
const STORED = 'mudeung-session:read';

/** What the person has read, so that loading the page again does not tell it again. */
interface IRead extends IWarned {
  run: string;
}

export class Warnings {
  constructor(
    private session: Session,
    private saveAll: () => Promise<unknown>
  ) {
    session.changed.connect(() => this._tick());
    Notification.manager.changed.connect((_, change) => {
      if (change.type === 'removed' && change.notification.id === this._shown) {
        this._shown = null;
        this._remember();
      }
    });
  }

  /** The server is extended, and whoever asked is told what that came to. */
  async extend(): Promise<void> {
    const { extended, message } = await this.session.extend();
    const language = this.session.language;
    if (extended) {
      this._dismiss();
      Notification.success(message ?? '', { autoClose: 5000 });
    } else {
      Notification.warning(message ?? say(language, 'failed'), { autoClose: false });
    }
  }

  private _tick(): void {
    const { facts, left, state } = this.session;
    if (facts === null || left === null || (state !== 'known' && state !== 'away')) {
      return;
    }
    const stopAt = facts.stop_at_seconds;
    if (this._warned === null) {
      this._warned = this._read(facts.run);
    }
    const isLater = this._warned !== null && stopAt > this._warned.stopAt + SAME_STOP_SECONDS;
    const { warned, warn } = look(left, stopAt, facts.warn_seconds, this._warned);
    this._warned = warned;
    if (isLater) {
      this._dismiss();
    }
    if (warn !== null && left > 0) {
      this._warn();
    }
    this._saveInTime(left, stopAt);
  }

  private _warn(): void {
    const { facts, language, left } = this.session;
    if (facts === null || left === null) {
      return;
    }
    const why = language === 'ko' ? facts.why_ko : facts.why_en;
    const at = instant(language, facts.stop_at_seconds);
    const extend: Notification.IAction = {
      label: say(language, 'extend'),
      displayType: 'accent',
      callback: event => {
        event.preventDefault(); // it stays until the platform has answered
        void this.extend();
      }
    };
    this._clear('_shown');
    this._shown = Notification.warning(say(language, 'warning', { left: length(language, left), at, why }), {
      autoClose: false,
      actions: facts.can_extend ? [extend] : []
    });
  }

  private _saveInTime(left: number, stopAt: number): void {
    const soon = document.hidden ? SAVE_HIDDEN_SECONDS : SAVE_SECONDS;
    if (left <= soon && Math.abs(stopAt - this._savedFor) > SAME_STOP_SECONDS) {
      this._savedFor = stopAt;
      this._saving = Notification.warning(say(this.session.language, 'lastMinute'), { autoClose: false });
      this.saveAll().catch(error => console.error('mudeung-session: the documents could not be saved', error));
    }
  }

  /** Nothing of an end is shown that is none any more. */
  private _dismiss(): void {
    this._clear('_shown');
    this._clear('_saving');
  }

  private _clear(name: '_shown' | '_saving'): void {
    const id = this[name];
    this[name] = null; // first: what is taken away here was not read by the person
    if (id !== null) {
      Notification.dismiss(id);
    }
  }

  private _remember(): void {
    const run = this.session.facts?.run;
    if (run === undefined || this._warned === null) {
      return;
    }
    const read: IRead = { run, ...this._warned };
    try {
      window.localStorage.setItem(STORED, JSON.stringify(read));
    } catch {
      // A browser that keeps nothing tells it again when the page is loaded again.
    }
  }

  private _read(run: string): IWarned | null {
    try {
      const read = JSON.parse(window.localStorage.getItem(STORED) ?? 'null') as IRead | null;
      return read !== null && read.run === run ? { stopAt: read.stopAt, reached: read.reached } : null;
    } catch {
      return null;
    }
  }

  private _warned: IWarned | null = null;
  private _shown: string | null = null;
  private _saving: string | null = null;
  private _savedFor = 0;
}
