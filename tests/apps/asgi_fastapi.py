"""A FastAPI application as its tutorial has them: types, dependencies, errors, a blocking view."""
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, UploadFile
from pydantic import BaseModel

app = FastAPI()
finished = []


class Item(BaseModel):
    name: str
    price: float


async def page(limit: int = 10):
    return limit


@app.get("/items/{number}")
async def read(number: int, limit: Annotated[int, Depends(page)]):
    if number > 100:
        raise HTTPException(404, "no such item")
    return {"number": number, "limit": limit}


@app.post("/items", status_code=201)
def create(item: Item, tasks: BackgroundTasks):
    tasks.add_task(finished.append, item.name)
    return {"twice": item.price * 2}


@app.get("/finished")
async def names():
    return finished


@app.post("/upload")
async def upload(file: UploadFile):
    return {"name": file.filename, "bytes": len(await file.read())}
