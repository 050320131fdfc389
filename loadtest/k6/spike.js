// A quiet rate, a rise to PEAK within seconds, and back: to units of which none has a worker when the rise begins.

import { begin, invoke, number, unitOf } from './lib/call.js';
import { integer, optionsOf, rampingRate, seconds } from './lib/settings.js';

export { readBack, teardown } from './lib/readback.js';

const UNITS = integer('UNITS', 40, 1, 500);
const QUIET = integer('RATE', 2, 1, 2000);
const PEAK = integer('PEAK', 30, 1, 2000);
// Of the whole: a third before, a third up and down with the peak held between, a third after.
const THIRD = Math.ceil(seconds('DURATION', '30s') / 3);
const RISE = Math.max(1, Math.ceil(THIRD / 5));

export const options = optionsOf({
  spike: rampingRate('spike', QUIET, [
    { target: QUIET, sec: THIRD },
    { target: PEAK, sec: RISE },
    { target: PEAK, sec: THIRD },
    { target: QUIET, sec: RISE },
    { target: QUIET, sec: THIRD },
  ]),
});

export const setup = begin;

export function spike(data) {
  invoke(data, unitOf(data, 'p', number() % UNITS), `spike-${number()}`);
}
