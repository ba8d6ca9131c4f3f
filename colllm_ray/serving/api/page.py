"""The page: files of `serving/page/`, which load nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

FILES = Path(__file__).parent.parent / "page"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add(app: FastAPI) -> None:
    """Its files; the list is made now, so that no request can name another."""

    def serve(route: str, file: Path) -> None:
        @app.get(route, include_in_schema=False)
        async def page() -> FileResponse:
            return FileResponse(file, headers=HEADERS)

    serve("/", FILES / "index.html")
    for file in sorted(FILES.iterdir()):
        if file.suffix in (".css", ".js", ".svg"):
            serve(f"/page/{file.name}", file)
