// The page: what is clicked and typed becomes questions to the server, and its answers are shown.

import { ApiError, describe, hasKey, useKey } from "./api.js";
import { Card } from "./card.js";
import { Controls } from "./controls.js";
import { Conversation } from "./conversation.js";
import { byId, element } from "./elements.js";
import { examplesFor } from "./examples.js";
import { Members } from "./members.js";
import { Follower } from "./scroll.js";

const WIDE = matchMedia("(min-width: 56rem)"); // as in page.css
const TOUCH = matchMedia("(hover: none)"); // where a focus would bring up the keyboard

let conversation = null;

/** Learns who writes here; without an answer it says why, and asks for an API key where that is the reason. */
async function connect() {
    try {
        const description = await describe();
        conversation ??= begin(description);
    } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        showProblem(error);
        return;
    }
    byId("key").hidden = byId("problem").hidden = true;
    document.body.classList.remove("waiting");
    focusQuestion();
}

function begin({ name, members: names, ...rest }) {
    const members = new Members(names);
    const collaboration = { name, members };
    document.title = `${name} · colllm_ray`;
    byId("name").textContent = name;
    byId("remember").checked = name !== "lab";
    byId("remember-note").hidden = name !== "lab";
    byId("examples").replaceChildren(...examplesFor(name).map(example));
    const callbacks = { changed: showState, refused: askForKey };
    return new Conversation(collaboration, new Controls(rest, members), new Card(byId("card"), members), callbacks);
}

function example(question) {
    const button = element("button", { type: "button" }, question);
    button.addEventListener("click", () => ask(question));
    return element("li", {}, button);
}

function ask(question) {
    conversation.ask(question);
    follower.begin();
    focusQuestion();
}

/** Shows whether there are turns, and whether one is being written. */
function showState() {
    const { isWriting, turns } = conversation;
    byId("welcome").hidden = turns.length > 0;
    byId("turns").classList.toggle("writing", isWriting);
    byId("send").textContent = isWriting ? "Stop" : "Ask";
    if (!isWriting) follower.end();
}

function showProblem(error) {
    byId("problem").textContent = error.message;
    byId("problem").hidden = error.wantsKey && !hasKey();
    if (error.wantsKey) askForKey();
}

function askForKey() {
    byId("key").hidden = false;
    byId("key-value").focus();
}

function focusQuestion() {
    if (!TOUCH.matches) byId("question").focus();
}

const follower = new Follower(byId("turns"));

byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    const question = byId("question").value.trim();
    if (conversation.isWriting) conversation.stop();
    else if (question) {
        byId("question").value = "";
        ask(question);
    }
});

byId("question").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!conversation.isWriting) byId("composer").requestSubmit();
});

byId("new").addEventListener("click", () => {
    conversation.clear();
    focusQuestion();
});

byId("compare").addEventListener("change", ({ target }) => {
    byId("turns").classList.toggle("comparing", target.checked);
    if (target.checked) conversation.compare();
});

byId("key").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(byId("key-value").value);
    connect();
});

const showSettings = () => (byId("settings").open = WIDE.matches);
WIDE.addEventListener("change", showSettings);
showSettings();
connect();
