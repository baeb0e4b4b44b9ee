/** What the extension says, in English and Korean. */

export type Language = 'en' | 'ko';

const WORDS = {
  title: ['This server', '이 서버'],
  open: ['Time left of this server', '이 서버의 남은 시간'],
  left: ['Time left', '남은 시간'],
  limit: ['Limited by', '제한'],
  until: ['until', '종료'],
  device: ['Device', '장치'],
  budget: ['Budget left', '과제 잔여량'],
  project: ['Project', '과제'],
  paused: ['Not charged since', '차감 중지'],
  notices: ['Notices', '알림'],
  none: ['none', '없음'],
  busy: ['busy', '사용률'],
  unknown: ['use not known', '사용률 알 수 없음'],
  simulated: ['simulated', '모의'],
  lost: ['lost', '사용 불가'],
  onProfile: ['on this profile', '이 프로필 기준'],
  extend: ['Extend', '연장'],
  extending: ['Extending …', '연장 중…'],
  portal: ['Portal', '포털'],
  away: ['platform not reached', '플랫폼 연결 안 됨'],
  awayWhy: [
    'The platform does not answer. Your server goes on; the time shown is as it was known last.',
    '플랫폼이 응답하지 않습니다. 서버는 계속 실행되며, 표시된 시간은 마지막으로 확인한 값입니다.'
  ],
  ended: ['ended', '종료됨'],
  endedWhy: ['This run has ended.', '이 실행은 종료되었습니다.'],
  notKnown: ['Time left not known', '남은 시간 알 수 없음'],
  notKnownWhy: [
    'The platform has said nothing of this server yet.',
    '플랫폼이 아직 이 서버의 정보를 알려 주지 않았습니다.'
  ],
  failed: [
    'The platform does not answer, so nothing was extended. Try again.',
    '플랫폼이 응답하지 않아 연장하지 못했습니다. 다시 시도하세요.'
  ],
  category: ['Mudeung', 'Mudeung'],
  commandShow: ['Show the time left of this server', '이 서버의 남은 시간 보기'],
  commandExtend: ['Extend this server', '이 서버 연장'],
  // JupyterLab shows the first 140 characters of a notification.
  warning: ['{left} left; this server stops at {at}: {why}.', '{left} 남음. 이 서버는 {at}에 중지됩니다: {why}.'],
  lastMinute: [
    'Your documents are being saved. Files stay; what kernels have in memory, such as variables and models, is lost.',
    '열린 문서를 저장합니다. 파일은 남고, 변수와 모델 등 커널 메모리의 내용은 사라집니다.'
  ]
} as const satisfies Record<string, readonly [string, string]>;

export type Word = keyof typeof WORDS;

/** Return a text, with the `values` in its braces. */
export function say(language: Language, word: Word, values: Record<string, string> = {}): string {
  const text: string = WORDS[word][language === 'ko' ? 1 : 0];
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => values[name] ?? whole);
}

/** Write whole seconds as people say them; below an hour with the seconds, as of a clock that runs. */
export function clock(language: Language, seconds: number): string {
  const units = language === 'ko' ? ['일', '시간', '분', '초'] : [' d', ' h', ' min', ' s'];
  const all = Math.max(Math.floor(seconds), 0);
  const parts = [Math.floor(all / 86400), Math.floor(all / 3600) % 24, Math.floor(all / 60) % 60, all % 60];
  const first = parts.findIndex(part => part > 0);
  if (first < 0) {
    return `0${units[3]}`;
  }
  const shown = [first, first + 1].filter(index => index < 4 && (index < 3 || all < 3600));
  return shown
    .filter(index => parts[index] > 0 || index === 3)
    .map(index => `${parts[index]}${units[index]}`)
    .join(' ');
}

/** Write how long, in whole minutes or hours. */
export function length(language: Language, seconds: number): string {
  return clock(language, seconds < 60 ? seconds : Math.floor(seconds / 60) * 60).replace(/ 0( s|초)$/, '');
}

/** Write an instant (seconds UTC) in the browser's zone, with that zone; the day only where it is another one. */
export function instant(language: Language, seconds: number): string {
  const at = new Date(seconds * 1000);
  const isToday = at.toDateString() === new Date().toDateString();
  return new Intl.DateTimeFormat(language === 'ko' ? 'ko-KR' : 'en-GB', {
    ...(isToday ? {} : { year: 'numeric', month: 'short', day: 'numeric' }),
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
    timeZoneName: 'short'
  }).format(at);
}

/** Write a budget in GFLOPS·s as TF·h or PF·h. */
export function amount(gflopsSeconds: number): string {
  const teraflopsHours = gflopsSeconds / 1e3 / 3600;
  const isLarge = teraflopsHours >= 1e3;
  const shown = isLarge ? teraflopsHours / 1e3 : teraflopsHours;
  return `${shown.toLocaleString('en', { maximumFractionDigits: shown < 100 ? 2 : 0 })} ${isLarge ? 'PF·h' : 'TF·h'}`;
}
