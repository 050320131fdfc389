// A few calls, to see that a deployment answers and that this test can judge it.

import { begin, invoke, number, unitOf } from './lib/call.js';
import { constantRate, integer, optionsOf, rate, seconds } from './lib/settings.js';

export { readBack, teardown } from './lib/readback.js';

const UNITS = integer('UNITS', 2, 1, 500);

export const options = optionsOf({ smoke: constantRate('smoke', rate('RATE', 2), seconds('DURATION', '5s')) });

export const setup = begin;

export function smoke(data) {
  invoke(data, unitOf(data, 's', number() % UNITS), `smoke-${number()}`);
}
