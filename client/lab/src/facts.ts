/** What the server extension answers, as the platform says it (see docs/notebook_session.md). */

export interface IDevice {
  model: string;
  count: number;
  simulated: boolean;
  names: string[];
  lost: boolean;
  busy_ppm: number | null;
  read_at: string | null;
}

export interface INotice {
  id: number;
  at: string;
  text_en: string;
  text_ko: string;
}

export interface IFacts {
  run: string;
  kind: string;
  language: 'en' | 'ko';
  project: string;
  profile_en: string;
  profile_ko: string;
  seconds_left: number;
  stop_at_seconds: number;
  limit: string;
  limit_en: string;
  limit_ko: string;
  why_en: string;
  why_ko: string;
  can_extend: boolean;
  extending_en: string;
  extending_ko: string;
  warn_seconds: number[];
  device: IDevice | null;
  budget: { left_gflops_seconds: number; left_seconds: number };
  paused: { since: string; why: string } | null;
  notices: INotice[];
}

/** An answer of `mudeung/session`: `facts` may be some seconds old, and is null before the first. */
export interface IAnswer {
  facts: IFacts | null;
  age_seconds: number | null;
  away: boolean;
  problem: number | null;
}

/** An answer of `mudeung/session/extend`. */
export interface IExtended extends IAnswer {
  extended: boolean;
  message_en?: string | null;
  message_ko?: string | null;
}
