// A modest rate for long. Every STOP_EVERYth call ends its unit's worker first, so that starts and ends go on all the time.

import { begin, invoke, number, stop, unitOf } from './lib/call.js';
import { constantRate, integer, optionsOf, rate, seconds } from './lib/settings.js';

export { readBack, teardown } from './lib/readback.js';

const UNITS = integer('UNITS', 8, 1, 500);
const STOP_EVERY = integer('STOP_EVERY', 25, 1, 1000000);

export const options = optionsOf({ soak: constantRate('soak', rate('RATE', 10), seconds('DURATION', '3m')) });

export const setup = begin;

export function soak(data) {
  const unit = unitOf(data, 'k', number() % UNITS);
  if (number() % STOP_EVERY === STOP_EVERY - 1) stop(data, unit);
  invoke(data, unit, `soak-${number()}`);
}
