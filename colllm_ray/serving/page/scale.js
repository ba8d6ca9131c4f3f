// The scale of the threshold: which share of the tokens experts write with it, on the validation data.
// Thresholds crowd near 0 and 1, shares do not; so the slider moves over shares.

const CERTAIN = 14; // log-odds that stand for 0 and 1

export class Scale {
    /** `budgets`: [{share, threshold}], shares rising from 0 to 1 and thresholds falling from 1 to 0. */
    constructor(budgets) {
        this.budgets = budgets;
    }

    thresholdAt(share) {
        const above = this.budgets.findIndex((budget) => budget.share >= share);
        if (this.budgets[above].share === share) return this.budgets[above].threshold;
        const [a, b] = [this.budgets[above - 1], this.budgets[above]];
        const part = (share - a.share) / (b.share - a.share);
        return sigmoid(logOdds(a.threshold) + part * (logOdds(b.threshold) - logOdds(a.threshold)));
    }

    shareAt(threshold) {
        const above = this.budgets.findIndex((budget) => budget.threshold <= threshold);
        if (this.budgets[above].threshold === threshold) return this.budgets[above].share;
        const [a, b] = [this.budgets[above - 1], this.budgets[above]];
        const gap = logOdds(a.threshold) - logOdds(b.threshold);
        const part = gap ? (logOdds(a.threshold) - logOdds(threshold)) / gap : 0;
        return a.share + part * (b.share - a.share);
    }
}

const logOdds = (p) => Math.max(-CERTAIN, Math.min(CERTAIN, Math.log(p) - Math.log1p(-p)));
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
