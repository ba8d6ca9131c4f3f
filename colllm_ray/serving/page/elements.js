// Elements of the page. What a model or the server wrote becomes text, never markup.

/** A new element with attributes and children; a child that is a string is text. */
export function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
}

/** The element with this id. */
export const byId = (id) => document.getElementById(id);
