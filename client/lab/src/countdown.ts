/** When a person is warned of their server's end. Pure: no clock, no page. */

/** A stop that moves by less is the same stop: others spend of the same budget. */
const SAME_STOP_SECONDS = 60;
/** Below this much time left the platform is asked more often. */
const NEAR_SECONDS = 300;
const SELDOM_SECONDS = 60;
const OFTEN_SECONDS = 10;

/** What is remembered between two looks: the stop (seconds UTC), and the tightest threshold that was reached. */
export interface IWarned {
  stopAt: number;
  reached: number;
}

/** A look's result: what to remember, and the threshold to warn of now, or null. */
export interface ILook {
  warned: IWarned;
  warn: number | null;
}

/** Return the tightest of the thresholds that `left` has reached; Infinity for none. */
export function tightest(left: number, thresholds: readonly number[]): number {
  return Math.min(Infinity, ...thresholds.filter(each => left <= each));
}

/**
 * Return what to warn of. Each threshold is told once; a stop that has moved to a later time arms those again that lie
 * ahead of it, one that has moved to an earlier time arms all.
 */
export function look(
  left: number,
  stopAt: number,
  thresholds: readonly number[],
  before: IWarned | null
): ILook {
  const here = tightest(left, thresholds);
  let reached = before === null ? Infinity : before.reached;
  let known = before === null ? stopAt : before.stopAt;
  if (stopAt > known + SAME_STOP_SECONDS) {
    reached = here;
    known = stopAt;
  } else if (stopAt < known - SAME_STOP_SECONDS) {
    reached = Infinity;
    known = stopAt;
  }
  const warn = here < reached ? here : null;
  return { warned: { stopAt: known, reached: Math.min(reached, here) }, warn };
}

/** Return after how many seconds the platform is asked again. */
export function pause(left: number | null, justExtended: boolean): number {
  const isNear = left !== null && left < NEAR_SECONDS;
  return isNear || justExtended ? OFTEN_SECONDS : SELDOM_SECONDS;
}
