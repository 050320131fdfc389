// What a run is told by its environment: `k6 run -e NAME=value …`, or variables of the shell. All of it is bounded here.

const MOST_TURNS = 50000;
const MOST_SECONDS = 2 * 3600;

function given(name, fallback) {
  const value = __ENV[name];
  return value === undefined || value === '' ? fallback : value;
}

/** A whole number within bounds. */
export function integer(name, fallback, least, most) {
  const text = String(given(name, fallback));
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!(value >= least && value <= most)) {
    throw new Error(`${name}=${text}: it is a whole number from ${least} to ${most}`);
  }
  return value;
}

/** Seconds, from `90`, `90s`, `3m` or `1h`. */
export function seconds(name, fallback) {
  const text = String(given(name, fallback));
  const found = /^(\d+)([smh]?)$/.exec(text);
  const value = found ? Number(found[1]) * { '': 1, s: 1, m: 60, h: 3600 }[found[2]] : NaN;
  if (!(value >= 1 && value <= MOST_SECONDS)) {
    throw new Error(`${name}=${text}: it is a time such as 30s or 3m, at most ${MOST_SECONDS}s`);
  }
  return value;
}

/** Turns in a time, from `20` (a second) or `6/m`. */
export function rate(name, fallback) {
  const text = String(given(name, fallback));
  const found = /^(\d+)(?:\/([sm]))?$/.exec(text);
  const value = found ? Number(found[1]) : 0;
  if (value < 1 || value > 2000) {
    throw new Error(`${name}=${text}: it is turns a second such as 20, or a minute such as 6/m, at most 2000`);
  }
  const unit = found[2] === 'm' ? 60 : 1;
  return { rate: value, timeUnit: `${unit}s`, perSecond: value / unit };
}

export const URL = given('URL', 'http://127.0.0.1:7600').replace(/\/+$/, '');
export const TOKEN = given('TOKEN', '');
export const RUNNER = given('RUNNER', 'echo');
export const PROMPT_BYTES = integer('PROMPT_BYTES', 64, 1, 1 << 20);
/** How long a call waits for its turn; what takes longer is told as accepted and read back later. */
export const WAIT_SEC = seconds('WAIT', '15s');
/** How long an accepted turn may still take when the load is over, and reading back may take in all. */
export const READ_BACK_SEC = seconds('READ_BACK', '5m');
/** Leave the units of the run where they are. */
export const KEEP = given('KEEP', '') === '1';

/** An open model: calls begin at their times whatever became of those before. `exec` is the function of one call. */
export function constantRate(exec, { rate: calls, timeUnit, perSecond }, durationSec, more = {}) {
  return openModel(exec, 'constant-arrival-rate', perSecond * durationSec, perSecond, durationSec, {
    rate: calls, timeUnit, duration: `${durationSec}s`, ...more,
  });
}

/** An open model whose rate a second goes from one of `stages` to the next. */
export function rampingRate(exec, startRate, stages) {
  let [turns, before, durationSec, highest] = [0, startRate, 0, startRate];
  for (const { target, sec } of stages) {
    turns += ((before + target) / 2) * sec;
    durationSec += sec;
    before = target;
    highest = Math.max(highest, target);
  }
  return openModel(exec, 'ramping-arrival-rate', turns, highest, durationSec, {
    startRate, timeUnit: '1s', stages: stages.map(({ target, sec }) => ({ target, duration: `${sec}s` })),
  });
}

function openModel(exec, executor, turns, perSecond, durationSec, more) {
  if (turns > MOST_TURNS) {
    throw new Error(`this would be ${Math.round(turns)} turns; a run has at most ${MOST_TURNS}`);
  }
  // Never more than were made in advance: a VU made during the load would cost the load generator's processor, and what a VU
  // was told is read back by that VU.
  const vus = integer('VUS', Math.min(500, Math.max(20, Math.ceil(perSecond * 10))), 1, 5000);
  return { executor, exec, preAllocatedVUs: vus, maxVUs: vus, gracefulStop: `${WAIT_SEC + 5}s`, ...more, durationSec };
}

/** The options of a run: its load, then the scenario that reads back. */
export function optionsOf(load) {
  const scenarios = {};
  let [vus, endSec] = [0, 0];
  for (const [name, { durationSec, ...scenario }] of Object.entries(load)) {
    scenarios[name] = scenario;
    vus += scenario.maxVUs;
    endSec = Math.max(endSec, durationSec + WAIT_SEC + 5);
  }
  scenarios.read_back = {
    executor: 'per-vu-iterations', exec: 'readBack', vus, iterations: 1,
    startTime: `${endSec + 1}s`, maxDuration: `${READ_BACK_SEC}s`, gracefulStop: '0s',
  };
  const slowest = (name) => (given(name, '') === '' ? 'max>=0' : `p(95)<${integer(name, 0, 1, 3600000)}`);
  return {
    scenarios,
    thresholds: {
      dropped_iterations: ['count==0'],
      checks: ['rate==1'],
      rekindle_errors: ['count==0'],
      rekindle_faults: ['count==0'],
      rekindle_unread: ['count==0'],
      rekindle_read_back: ['count>0'],
      'rekindle_call{start:warm}': [slowest('WARM_P95_MS')],
      'rekindle_call{start:cold}': [slowest('COLD_P95_MS')],
      // So that the summary has a line for it: warm turns have no start.
      'rekindle_start{start:cold}': ['max>=0'],
    },
    // Without URLs: each turn has its own, and k6 would keep figures of each.
    systemTags: ['scenario', 'status', 'error_code', 'check'],
    summaryTrendStats: ['min', 'med', 'p(90)', 'p(95)', 'p(99)', 'max'],
    setupTimeout: `${WAIT_SEC * 10}s`,
    teardownTimeout: `${READ_BACK_SEC + 300}s`,
    batch: 32,
    batchPerHost: 32,
  };
}
