// What a day looks like: warm turns at RATE, beside them new units at COLD_RATE and old ones that come back at AGAIN_RATE.

import { begin, invoke, number, stop, unitOf, warmUp } from './lib/call.js';
import { constantRate, integer, optionsOf, rate, seconds } from './lib/settings.js';

export { readBack, teardown } from './lib/readback.js';

const UNITS = integer('UNITS', 8, 1, 500);
const DURATION = seconds('DURATION', '30s');

export const options = optionsOf({
  warm: constantRate('warm', rate('RATE', 10), DURATION),
  cold: constantRate('cold', rate('COLD_RATE', 1), DURATION),
  again: constantRate('again', rate('AGAIN_RATE', 1), DURATION),
});

export function setup() {
  const data = begin();
  return warmUp(data, Array.from({ length: UNITS }, (_, n) => unitOf(data, 'w', n)));
}

export function warm(data) {
  invoke(data, unitOf(data, 'w', number() % UNITS), `warm-${number()}`);
}

export function cold(data) {
  invoke(data, unitOf(data, 'c', number()), `cold-${number()}`);
}

export function again(data) {
  const unit = unitOf(data, 'a', number() % UNITS);
  stop(data, unit);
  invoke(data, unit, `again-${number()}`);
}
