/** This server's session: asked of the server extension again and again, counted down in between. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { Signal, type ISignal } from '@lumino/signaling';

import { pause } from './countdown';
import type { IAnswer, IExtended, IFacts } from './facts';
import type { Language } from './words';

const GONE = 410;
const ANSWER_SECONDS = 15;
/** How long after an extension the platform is asked often: the stop may move once more. */
const AFTER_EXTENSION_SECONDS = 60;

/** How things stand: `unknown` before the first answer, `off` on a server that no platform started. */
export type State = 'unknown' | 'known' | 'away' | 'ended' | 'off';

export class Session {
  constructor(
    private settings: ServerConnection.ISettings,
    private labLanguage: () => string
  ) {
    this._ticking = window.setInterval(() => this._changed.emit(), 1000);
    void this.refresh();
  }

  /** It is emitted every second, and whenever something new is known. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get state(): State {
    return this._state;
  }

  get facts(): IFacts | null {
    return this._facts;
  }

  /** The language of JupyterLab where that is Korean, else the person's own on the platform. */
  get language(): Language {
    return this.labLanguage().toLowerCase().startsWith('ko') || this._facts?.language === 'ko' ? 'ko' : 'en';
  }

  /** Seconds until the server is stopped, as far as is known; null where nothing is. */
  get left(): number | null {
    return this._facts === null ? null : Math.max((this._endsAt - Date.now()) / 1000, 0);
  }

  /** The platform's word is asked for now. */
  async refresh(): Promise<void> {
    window.clearTimeout(this._waiting);
    try {
      this._take(await this._ask<IAnswer>('GET', 'mudeung/session'));
    } catch (error) {
      this._lose(error);
    }
    this._askAgain();
  }

  /** The server is extended as far as it may be; return whether that gained time, and what to say. */
  async extend(): Promise<{ extended: boolean; message: string | null }> {
    window.clearTimeout(this._waiting);
    let answer: IExtended | null = null;
    try {
      answer = await this._ask<IExtended>('POST', 'mudeung/session/extend');
      this._extendedAt = Date.now();
      this._take(answer);
    } catch (error) {
      this._lose(error);
    }
    this._askAgain();
    const message = (this.language === 'ko' ? answer?.message_ko : answer?.message_en) ?? null;
    return { extended: answer?.extended === true, message };
  }

  private async _ask<Answer>(method: string, path: string): Promise<Answer> {
    const url = URLExt.join(this.settings.baseUrl, path);
    const init: RequestInit = { method, signal: AbortSignal.timeout(ANSWER_SECONDS * 1000) };
    const response = await ServerConnection.makeRequest(url, init, this.settings);
    if (!response.ok) {
      throw new ServerConnection.ResponseError(response);
    }
    return (await response.json()) as Answer;
  }

  private _take(answer: IAnswer): void {
    this._facts = answer.facts;
    if (answer.facts !== null) {
      this._endsAt = Date.now() + (answer.facts.seconds_left - (answer.age_seconds ?? 0)) * 1000;
    }
    const isKnown = answer.facts !== null && answer.problem === null;
    this._state = answer.problem === GONE ? 'ended' : answer.away ? 'away' : isKnown ? 'known' : 'unknown';
    this._changed.emit();
  }

  private _lose(error: unknown): void {
    const isOff = error instanceof ServerConnection.ResponseError && error.response.status === 404;
    this._state = isOff ? 'off' : 'away';
    this._changed.emit();
  }

  private _askAgain(): void {
    if (this._state === 'off' || this._state === 'ended') {
      window.clearInterval(this._ticking);
      return;
    }
    const justExtended = Date.now() - this._extendedAt < AFTER_EXTENSION_SECONDS * 1000;
    this._waiting = window.setTimeout(() => void this.refresh(), pause(this.left, justExtended) * 1000);
  }

  private _changed = new Signal<this, void>(this);
  private _state: State = 'unknown';
  private _facts: IFacts | null = null;
  private _endsAt = 0;
  private _extendedAt = -Infinity;
  private _ticking: number;
  private _waiting = 0;
}
