/** The status bar's item: a button with the time left, the device and the budget. */

import { Widget } from '@lumino/widgets';

import type { IDevice } from './facts';
import type { Session } from './session';
import { amount, clock, length, say, type Language } from './words';

/** Below this the item stands out. */
const SOON_SECONDS = 600;
const PPM_PER_PERCENT = 10_000;

export class Item extends Widget {
  constructor(private session: Session) {
    super();
    this.addClass('mudeung-Item');
    this._button.type = 'button';
    this._button.className = 'mudeung-Item-button';
    this._button.setAttribute('aria-haspopup', 'dialog');
    this._button.setAttribute('aria-expanded', 'false');
    this.node.appendChild(this._button);
    session.changed.connect(() => this._show());
    this._show();
  }

  get button(): HTMLButtonElement {
    return this._button;
  }

  private _show(): void {
    const { facts, language, left, state } = this.session;
    const title = say(language, 'open');
    const parts = [left === null ? say(language, 'notKnown') : clock(language, left)];
    let name = `${title}: ${left === null ? say(language, 'notKnown') : length(language, left)}`;
    if (state === 'ended') {
      parts.splice(0, 1, say(language, 'ended'));
      name = `${title}: ${parts[0]}`;
    } else if (state === 'away') {
      parts.push(say(language, 'away'));
      name += `, ${say(language, 'away')}`;
    }
    if (facts !== null && state !== 'ended') {
      if (facts.device !== null) {
        parts.push(deviceText(language, facts.device));
      }
      parts.push(amount(facts.budget.left_gflops_seconds));
    }
    const isSoon = left !== null && left <= SOON_SECONDS && state !== 'ended';
    const text = `${isSoon ? '⚠' : '⏱'} ${parts.join(' · ')}`;
    // What has not changed is not written: a screen reader and the browser's layout have nothing to do every second.
    if (this._button.textContent !== text) {
      this._button.textContent = text;
    }
    if (this._button.getAttribute('aria-label') !== name) {
      this._button.setAttribute('aria-label', name);
      this._button.title = title;
    }
    this.toggleClass('mudeung-mod-soon', isSoon);
    this.toggleClass('mudeung-mod-away', state === 'away');
  }

  private _button = document.createElement('button');
}

/** Return the devices and how busy they are, in few words. */
export function deviceText(language: Language, device: IDevice, isLong = false): string {
  const name = isLong ? (device.names[0] ?? device.model) : device.model;
  const parts = [device.count > 1 ? `${device.count} × ${name}` : name];
  if (device.simulated) {
    parts.push(say(language, 'simulated'));
  } else if (device.lost) {
    parts.push(say(language, 'lost'));
  } else if (device.busy_ppm !== null) {
    const percent = `${Math.floor(device.busy_ppm / PPM_PER_PERCENT)}%`;
    parts.push(isLong ? `${say(language, 'busy')} ${percent}` : percent);
  } else if (isLong) {
    parts.push(say(language, 'unknown'));
  }
  return parts.join(isLong ? ', ' : ' ');
}
