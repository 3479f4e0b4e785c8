"""A Quart application: a view, a form, a stream, and what runs around its serving."""
import asyncio

from quart import Quart, request

app = Quart(__name__)


@app.before_serving
async def begin():
    app.config["GREETING"] = "hello from Quart"


@app.get("/")
async def index():
    return app.config["GREETING"]


@app.post("/size")
async def size():
    return {"bytes": len(await request.get_data())}


@app.get("/stream")
async def stream():
    async def lines():
        for i in range(5):
            yield f"line {i}\n"
            await asyncio.sleep(0.01)
    return lines(), {"Content-Type": "text/plain"}
