// Server-sent events.

const DATA = "data: ";

/** The data of each event of a response's body. A body that breaks off ends like one that is whole. */
export async function* events(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
        const { done, value } = await reader.read().catch(brokenOff);
        if (done) return;
        const parts = (text + value).split("\n\n");
        text = parts.pop();
        for (const part of parts) if (part.startsWith(DATA)) yield part.slice(DATA.length);
    }
}

function brokenOff(error) {
    if (error instanceof TypeError) return { done: true };
    throw error;
}
