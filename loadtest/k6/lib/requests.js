// How these scripts talk HTTP to a deployment.

import { sleep } from 'k6';
import http from 'k6/http';

import { READ_BACK_SEC, TOKEN, URL } from './settings.js';

const AT_ONCE = 32;

/** Parameters of a request; `name` stands for its URL in k6's figures. */
export function parameters(name, headers = {}, timeoutSec = 60) {
  return {
    headers: { Authorization: `Bearer ${TOKEN}`, 'Content-Type': 'application/json', ...headers },
    tags: { name },
    timeout: `${timeoutSec}s`,
    responseCallback: http.expectedStatuses(200, 202, 204, 429),
  };
}

/** Statuses after which a request may be sent again: no answer, a unit whose worker has not ended yet, limits, an outage. */
const AGAIN = [0, 409, 429, 503];

/** Sends one request to each path, again and again where that may help. None of them does more when it is repeated. */
export function sendAll(method, paths, params) {
  const answers = new Array(paths.length);
  const until = Date.now() + READ_BACK_SEC * 1000;
  let left = paths.map((_, index) => index);
  while (left.length > 0) {
    const now = left.slice(0, AT_ONCE);
    const again = [];
    let pause = 0;
    http.batch(now.map((index) => [method, URL + paths[index], null, params])).forEach((answer, n) => {
      answers[now[n]] = answer;
      if (AGAIN.includes(answer.status) && Date.now() < until) {
        again.push(now[n]);
        pause = Math.max(pause, Number(answer.headers['Retry-After'] || 1));
      }
    });
    left = left.slice(AT_ONCE).concat(again);
    if (pause > 0) sleep(pause);
  }
  return answers;
}

/** As `sendAll`, of one GET. */
export function get(name, path) {
  return sendAll('GET', [path], parameters(name))[0];
}

/** All items of a list that comes in pages. */
export function pages(name, path, member, cursor) {
  const all = [];
  let next = '';
  do {
    const answer = get(name, `${path}?limit=200${next}`);
    if (answer.status !== 200) throw new Error(`${path}: ${answer.status || answer.error} ${answer.body}`);
    const page = answer.json();
    all.push(...page[member]);
    next = page.next ? `&${cursor}=${encodeURIComponent(page.next)}` : null;
  } while (next);
  return all;
}
