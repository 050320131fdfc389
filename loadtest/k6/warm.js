// Turns of units that have a worker: UNITS of them, in rotation.

import { begin, invoke, number, unitOf, warmUp } from './lib/call.js';
import { constantRate, integer, optionsOf, rate, seconds } from './lib/settings.js';

export { readBack, teardown } from './lib/readback.js';

const UNITS = integer('UNITS', 8, 1, 500);

export const options = optionsOf({ warm: constantRate('warm', rate('RATE', 20), seconds('DURATION', '30s')) });

export function setup() {
  const data = begin();
  return warmUp(data, Array.from({ length: UNITS }, (_, n) => unitOf(data, 'w', n)));
}

export function warm(data) {
  invoke(data, unitOf(data, 'w', number() % UNITS), `warm-${number()}`);
}
