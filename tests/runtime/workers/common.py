"""What checks share: small models and data, jobs, and what has to be raised."""

import base64
import os
import zlib
from contextlib import contextmanager

import msgspec
import pytest
import torch
from jobc import Accelerator, FindingsError
from jobc.spec.model import Job
from jobc.spec.resolved import ResolvedSpec
from jobc.spec.tree import Origin
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

__all__ = ["Accelerator", "Numbers", "Stream", "data", "job", "loader", "model", "refuses", "same"]


class Numbers(Dataset):
    """The numbers from 0, each as a tensor, a text and itself."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"number": torch.tensor([index, -index]), "text": f"no. {index}", "id": index}


class Stream(IterableDataset):
    """The numbers from 0 as tensors, one after another."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return (torch.tensor([float(number)]) for number in range(self.count))


@contextmanager
def job(explicit=(), **values):
    """Within it, processes are those of a job of two on this CPU."""
    settings = {"hardware": {"kind": "cpu", "per_node": 2}, "paradigm": {"kind": "ddp"}, **values}
    origin = Origin(layer="file", source="job.yaml", line=7, column=3)
    spec = ResolvedSpec(job=msgspec.convert({"name": "t", **settings}, Job), origins=dict.fromkeys(explicit, origin))
    raw = zlib.compress(msgspec.json.encode(spec.document()))
    os.environ["JOBC_SPEC"] = "z:" + base64.urlsafe_b64encode(raw).decode()
    try:
        yield
    finally:
        del os.environ["JOBC_SPEC"]


def model(seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def data(count=32):
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(count, 4, generator=generator)
    return TensorDataset(inputs, inputs.sum(1, keepdim=True) + torch.randn(count, 1, generator=generator))


def loader(count, batch_size, **options):
    return DataLoader(Numbers(count), batch_size=batch_size, **options)


def same(one, other, tolerance=0.0):
    """Whether two models, or two lists of tensors, have the same values."""
    pairs = zip(_tensors(one), _tensors(other), strict=True)
    return all(torch.allclose(left, right, rtol=0, atol=tolerance) for left, right in pairs)


def _tensors(thing):
    return list(thing.parameters()) if isinstance(thing, nn.Module) else list(thing)


@contextmanager
def refuses(code, *words):
    """What is within raises a finding with a code and these words in it."""
    with pytest.raises(FindingsError) as raised:
        yield
    text = str(raised.value)
    assert [item.code for item in raised.value.findings] == [code], text
    assert all(word in text for word in words), text
