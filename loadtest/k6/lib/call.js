// The one way in which these scripts call a deployment, and what they note of it.

import { check } from 'k6';
import { sha256 } from 'k6/crypto';
import exec from 'k6/execution';
import http from 'k6/http';
import { Counter, Trend } from 'k6/metrics';

import { parameters } from './requests.js';
import { PROMPT_BYTES, RUNNER, TOKEN, URL, WAIT_SEC } from './settings.js';

const accepted = new Counter('rekindle_accepted');
/** 429: the deployment's limits. It did what it was told to do, so these are not errors. */
const refused = new Counter('rekindle_refused');
const errors = new Counter('rekindle_errors');
/** Up with every accepted turn, down with every one that was read back. */
const unread = new Counter('rekindle_unread');
/** The caller's own clock; the other three are what `Server-Timing` says. */
const whole = new Trend('rekindle_call', true);
const parts = {
  queue: new Trend('rekindle_queue', true),
  start: new Trend('rekindle_start', true),
  turn: new Trend('rekindle_turn', true),
};

/** What this VU was told. VUs share no memory, so each reads back its own. */
export const told = [];

let refusals = 0;

/** The run's name, once it is known that the deployment answers to this URL and token. */
export function begin() {
  if (TOKEN === '') {
    throw new Error('TOKEN is missing: k6 run -e URL=http://… -e TOKEN=… (`make up` prints both)');
  }
  const answer = http.get(`${URL}/v1/units?limit=1`, parameters('units'));
  if (![200, 429].includes(answer.status)) {
    throw new Error(`${URL} answers ${answer.status || answer.error}: ${answer.body || ''}`);
  }
  const random = Math.floor(Math.random() * 36 ** 4).toString(36);
  return { run: `k6-${Date.now().toString(36)}-${random}`, told: [] };
}

/** Calls each of these units once, so that they are warm when the load begins. */
export function warmUp(data, units) {
  units.forEach((unit, n) => invoke(data, unit, `setup-${n}`));
  data.told = told;
  return data;
}

/** Number of this call among all of its scenario, over all VUs. */
export function number() {
  return exec.scenario.iterationInTest;
}

/** Names of a run's units of one kind. */
export function unitOf(data, kind, n) {
  return `${data.run}-${kind}${n}`;
}

/** The prompt of a call. It names the run and the call, so that whoever reads it later knows whose it was. */
export function promptOf(run, key) {
  return `${run} ${key} `.padEnd(PROMPT_BYTES, 'x');
}

/** The call that a prompt is of, or null when no call of this run made it. */
export function keyOf(run, prompt) {
  const [from, key] = prompt.split(' ', 2);
  return from === run && key && prompt === promptOf(run, key) ? key : null;
}

/** Ends a unit's worker, so that its next call starts one. */
export function stop(data, unit) {
  const answer = http.post(`${URL}/v1/units/${unit}/stop`, null, parameters('stop', { Prefer: 'wait=10' }));
  // 404: one that was never called. Whoever is refused by a limit finds it warm.
  check(answer, { 'the worker ends': ({ status }) => [200, 202, 404, 429].includes(status) });
}

/** Calls a unit once and waits for its turn. `key` is unique within the run. */
export function invoke(data, unit, key) {
  const prompt = promptOf(data.run, key);
  const answer = http.post(
    `${URL}/v1/units/${unit}/invoke`,
    JSON.stringify({ prompt, runner: RUNNER }),
    parameters(
      'invoke',
      { Prefer: `respond-async, wait=${WAIT_SEC}`, 'Idempotency-Key': `${data.run}-${key}` },
      WAIT_SEC + 4,
    ),
  );
  const body = parsed(answer);
  if (answer.status === 429) {
    refuse(body);
    return;
  }
  const outcome = outcomeOf(answer, body);
  if (body.turn_id) {
    accepted.add(1);
    unread.add(1);
    const reply = outcome === 'completed' ? sha256(body.reply || '', 'hex') : null;
    told.push({ turn: body.turn_id, unit, key, outcome, reply });
  }
  if (outcome === 'completed' || outcome === 'accepted') {
    time(answer);
  } else {
    errors.add(1, { kind: outcome === 'failed' ? `turn failed: ${body.reason}` : outcome });
  }
  check(answer, { 'the call is served': () => outcome === 'completed' || outcome === 'accepted' });
}

function parsed(answer) {
  try {
    return JSON.parse(answer.body) || {};
  } catch (_) {
    return {};
  }
}

/** `completed`, `accepted` (it goes on), `failed` (the turn), or what kind of error it was. */
function outcomeOf(answer, body) {
  if (answer.status === 200 && body.status === 'completed' && body.turn_id) return 'completed';
  if (answer.status === 202 && body.turn_id) return 'accepted';
  if (answer.status === 502 && body.turn_id && body.reason) return 'failed';
  if (answer.status === 0) return `no answer: ${answer.error}`;
  const type = String(body.type || '').split('/').pop();
  return type ? `${answer.status} ${type}` : `${answer.status}`;
}

function refuse(body) {
  refused.add(1, { kind: String(body.type || 'too many').split('/').pop() });
  if (refusals === 0) {
    console.warn(`refused by a limit of the deployment, counted as such and not as an error: ${body.detail || '429'}`);
  }
  refusals += 1;
}

function time(answer) {
  const start = answer.headers['Rekindle-Start'] || 'unknown';
  whole.add(answer.timings.duration, { start });
  for (const [, part, ms] of (answer.headers['Server-Timing'] || '').matchAll(/(\w+);dur=([\d.]+)/g)) {
    if (parts[part]) parts[part].add(Number(ms), { start });
  }
}
