// Numbers as a reader wants them.

/** A probability with two digits that count, also near 0 and 1. */
export function probability(p) {
    const least = Math.min(p, 1 - p);
    if (least === 0) return String(p);
    if (least < 1e-6) return p < 0.5 ? "<\u00a00.000001" : ">\u00a00.999999";
    return p.toFixed(Math.min(6, 1 + Math.ceil(-Math.log10(least))));
}

/** A share of several, as a percentage. */
export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

/** The probability of one token among all others, as a percentage. */
export function chance(logprob) {
    const p = Math.exp(logprob);
    if (p < 0.001) return "<\u00a00.1\u00a0%";
    if (p > 0.999) return ">\u00a099.9\u00a0%";
    return `${(100 * p).toFixed(1)}\u00a0%`;
}

/** A log-prob. */
export const logarithm = (x) => (x > -0.001 ? ">\u00a0−0.001" : x.toFixed(3).replace("-", "−"));

/** A time, given in milliseconds. */
export const duration = (ms) => (ms < 1000 ? `${Math.round(ms)}\u00a0ms` : `${(ms / 1000).toFixed(1)}\u00a0s`);

/** "1 token", "2 tokens". */
export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** "a, b and c". */
export const listed = (names) => new Intl.ListFormat("en-GB").format(names);
