// Cold starts: every call is the first of a unit of its own, since many calls of one unit start one worker.

import { begin, invoke, number, unitOf } from './lib/call.js';
import { constantRate, optionsOf, rate, seconds } from './lib/settings.js';

export { readBack, teardown } from './lib/readback.js';

export const options = optionsOf({ cold: constantRate('cold', rate('RATE', 2), seconds('DURATION', '30s')) });

export const setup = begin;

export function cold(data) {
  invoke(data, unitOf(data, 'c', number()), `cold-${number()}`);
}
