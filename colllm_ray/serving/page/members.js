// Who is who: a member's number, and the colour and the line that go with it everywhere on the page.

const COLOURS = 7; // of page.css; experts beyond them begin anew, with other lines
const LINES = 4;

export class Members {
    /** Their names, the base's first. */
    constructor(names) {
        this.names = names;
        [this.base, ...this.experts] = names;
    }

    /** Gives an element the colours of a member. */
    paint(element, name) {
        const number = this.names.indexOf(name);
        element.dataset.colour = number > 0 ? 1 + ((number - 1) % COLOURS) : 0;
        element.dataset.line = number > 0 ? 1 + ((number - 1) % LINES) : 0;
        element.classList.toggle("expert", number > 0);
        return element;
    }
}
