// The second phase: what callers were told is held against what the deployment has. Each accepted turn ended exactly once, as
// told; each call is one turn.
//
// `readBack` is a scenario of which every VU runs one iteration: it reads the turns that this VU was told of. `teardown` runs
// once, after that: it reads the conversations and streams of all units of the run, where it finds turns that nobody was told of.

import { check, sleep } from 'k6';
import { sha256 } from 'k6/crypto';
import { Counter } from 'k6/metrics';

import { keyOf, promptOf, told } from './call.js';
import { get, pages, parameters, sendAll } from './requests.js';
import { KEEP, READ_BACK_SEC } from './settings.js';

const unread = new Counter('rekindle_unread');
const read = new Counter('rekindle_read_back');
const faults = new Counter('rekindle_faults');
/** Turns whose events the deployment keeps no more; their records are judged all the same. */
const trimmed = new Counter('rekindle_trimmed');

function fault(kind, turn, unit, text) {
  faults.add(1, { fault: kind, turn, unit });
  console.error(`read-back: ${kind}: turn ${turn} of unit ${unit}: ${text}`);
}

const isSettled = (status) => status === 'completed' || status === 'failed';

/** Holds turns that somebody was told of against their records. Those that still run are waited for. */
function judge(run, all) {
  const until = Date.now() + READ_BACK_SEC * 1000;
  let left = all;
  while (left.length > 0) {
    const paths = left.map(({ turn }) => `/v1/turns/${encodeURIComponent(turn)}`);
    const answers = sendAll('GET', paths, parameters('turn'));
    left = left.filter((one, n) => {
      const answer = answers[n];
      const record = answer.status === 200 ? answer.json() : null;
      if (record && !isSettled(record.status) && Date.now() < until) return true;
      const wrong = wrongWith(run, one, answer, record);
      if (wrong) fault(wrong[0], one.turn, one.unit, wrong[1]);
      check(one, { 'the accepted turn is there and ended as told': () => !wrong });
      unread.add(-1);
      read.add(1);
      return false;
    });
    if (left.length > 0) sleep(1);
  }
}

/** What is wrong with a turn: the kind and the words, or null. */
function wrongWith(run, one, answer, record) {
  if (answer.status === 404) return ['dropped', `its caller was told "${one.outcome}", and there is no such turn`];
  if (!record) return ['unreadable', `GET answers ${answer.status || answer.error}`];
  if (record.prompt !== promptOf(run, one.key) || record.unit !== one.unit) {
    const other = keyOf(run, record.prompt) || 'no call of this run';
    return ['dropped', `the caller of ${one.key} was told of it, and it is the turn of ${other} in ${record.unit}`];
  }
  if (!isSettled(record.status)) return ['unsettled', `it is still ${record.status}`];
  if (one.outcome === 'accepted') return null;
  if (record.status !== one.outcome && isSettled(one.outcome)) {
    return ['contradicted', `its caller was told "${one.outcome}", and it is "${record.status}"`];
  }
  if (one.reply && sha256(record.reply || '', 'hex') !== one.reply) {
    return ['contradicted', 'its caller was told another reply than it has'];
  }
  return null;
}

/** Reads back what this VU was told. */
export function readBack(data) {
  judge(data.run, told.splice(0));
}

/** Reads back what `setup` was told and what all units of the run have; then erases them. */
export function teardown(data) {
  // So that the thresholds have something to judge when nothing was said at all.
  [unread, read, faults].forEach((counter) => counter.add(0));
  judge(data.run, data.told);
  const units = pages('units', '/v1/units', 'units', 'cursor')
    .map(({ name }) => name)
    .filter((name) => name.startsWith(`${data.run}-`));
  const seen = {};
  for (const unit of units) conversation(data.run, unit, seen);
  if (!KEEP) erase(units);
}

/** One unit: each call is one turn, and each turn ended once. */
function conversation(run, unit, seen) {
  const turns = pages('turns', `/v1/units/${unit}/turns`, 'turns', 'before').reverse();
  const events = get('events', `/v1/units/${unit}/events?follow=false`);
  const { firstMs, ends } = endsOf(events.body || '');
  for (const { turn_id: turn, prompt, status, settled_at: settledAt } of turns) {
    const key = keyOf(run, prompt);
    if (key === null) {
      fault('foreign', turn, unit, 'no call of this run has its prompt');
    } else if (seen[key]) {
      fault('doubled', turn, unit, `the call ${key} was made once, and has the turn ${seen[key]} as well`);
    } else {
      seen[key] = turn;
    }
    const said = ends[turn] || [];
    if (said.length === 0 && settledAt && Date.parse(settledAt) < firstMs) {
      trimmed.add(1);
      continue;
    }
    const once = said.length === 1 && said[0] === status;
    if (!once) fault('ended', turn, unit, `it is "${status}", and its unit's events end it as: ${said.join(', ') || 'never'}`);
    check(turn, { 'the turn ended exactly once': () => once });
  }
}

/** Of a unit's event stream: when its first kept event was, and how each turn ended, each time that it did. */
function endsOf(text) {
  const ends = {};
  let firstMs = 0;
  for (const line of text.split('\n')) {
    if (line.startsWith('id:') && firstMs === 0) firstMs = Number(line.slice(3).split('-')[0]);
    if (!line.startsWith('data:') || !line.includes('"turn-')) continue;
    const event = JSON.parse(line.slice(5));
    const outcome = event.type === 'turn-complete' ? 'completed' : event.type === 'turn-failed' && event.final ? 'failed' : null;
    if (outcome) (ends[event.turn_id] = ends[event.turn_id] || []).push(outcome);
  }
  return { firstMs, ends };
}

function erase(units) {
  const paths = units.map((unit) => `/v1/units/${unit}`);
  sendAll('DELETE', paths, parameters('erase', { Prefer: 'wait=30' })).forEach(({ status, body }, n) => {
    if (![204, 404].includes(status)) console.warn(`unit ${units[n]} is left: ${status} ${body}`);
  });
}
