// While an answer is written the window follows its end, unless the reader has scrolled away from it.

const NEAR = 80; // pixels

export class Follower {
    constructor(content) {
        this.follows = false;
        window.addEventListener("scroll", () => (this.isAtEnd = distance() < NEAR), { passive: true });
        new ResizeObserver(() => this.follow()).observe(content);
    }

    /** Goes to the end now, and stays there. */
    begin() {
        this.follows = this.isAtEnd = true;
        toEnd();
    }

    end() {
        this.follow();
        this.follows = false;
    }

    follow() {
        if (this.follows && this.isAtEnd) toEnd();
    }
}

const distance = () => document.documentElement.scrollHeight - window.innerHeight - window.scrollY;
const toEnd = () => window.scrollTo({ top: document.documentElement.scrollHeight });
