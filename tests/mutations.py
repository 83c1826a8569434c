"""Seeded damage: bytes changed anywhere, and values changed where a file of its kind has them."""

import io
import re
import zipfile

import numpy as np

NUMBERS = ("0", "-1", "1", "2.5", "1e999", "-1e-999", "10000000000", "200000", "1" + "0" * 400, "9" * 5000)
WORDS = (
    "nan",
    "NaN",
    "inf",
    "-Infinity",
    "true",
    "null",
    '""',
    '"x"',
    '"\\u0000"',
    "[]",
    "{}",
    "[[1], 2]",
    "'",
)
DEEP = ("[" * 5000, "[" * 300 + "]" * 300, '{"a": ' * 300 + "1" + "}" * 300, "a." * 3000 + "a = 1")
BYTES = (
    b"\x00" * 4,
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\x7f\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"../../../",
    b"\n",
)
DTYPES = (
    "<f4",
    ">f8",
    "|b1",
    "|O",
    "<U3",
    "<U0",
    "|S5",
    "<c16",
    "<i8",
    "|V0",
    "<U99999999",
    "[('a','<f8')]",
    "<m8",
)
SHAPES = ("()", "(0,)", "(-1,)", "(1,)", "(2, 3)", "(10000000000,)", "(99999999999999999999,)", "(1,1,1,1,1)")


def flip(content, rng):
    """Change up to three bits."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(content, rng):
    """Keep the beginning alone."""
    return content[: rng.randrange(len(content))]


def insert(content, rng):
    """Put something in between."""
    place = rng.randrange(len(content) + 1)
    new = rng.choice((rng.randbytes(rng.randint(1, 40)), rng.choice(BYTES)))
    return content[:place] + new + content[place:]


def overwrite(content, rng):
    """Put something in the place of other bytes."""
    place, new = rng.randrange(len(content)), rng.choice(BYTES)
    return content[:place] + new + content[place + len(new) :]


def delete(content, rng):
    """Leave out some bytes."""
    place = rng.randrange(len(content))
    return content[:place] + content[place + rng.randint(1, 64) :]


def double(content, rng):
    """Repeat a part, there or elsewhere."""
    start = rng.randrange(len(content))
    part = content[start : start + rng.randint(1, max(2, len(content) // 4))]
    place = rng.choice((start, rng.randrange(len(content))))
    return content[:place] + part + content[place:]


ANYWHERE = (flip, flip, cut, insert, overwrite, delete, double)
"""Damage of any file; single bits come twice as often."""


def change_value(content, rng):
    """Give a number, word or text of a JSON or TOML file another value."""
    text = content.decode()
    found = list(re.finditer(r'-?\d[\d.eE+-]*|"[^"\n]*"|true|false|null', text))
    one = rng.choice(found)
    new = rng.choice(rng.choice((NUMBERS, NUMBERS, WORDS, DEEP, (rng.choice(found)[0],))))
    return (text[: one.start()] + new + text[one.end() :]).encode()


def change_lines(content, rng):
    """Leave out, repeat or swap lines."""
    lines = content.split(b"\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    action = rng.randrange(3)
    if action == 0:
        del lines[one]
    elif action == 1:
        lines.insert(other, lines[one])
    else:
        lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def change_header(content, rng):
    """Give an array of an ``.npz`` file another header, with the right checksum."""

    def change(member):
        kinds = {
            b"'descr': '[^']*'": DTYPES,
            rb"'shape': \([^)]*\)": SHAPES,
            b"False": ("True", "1", "-" * 900),
        }
        pattern = rng.choice(list(kinds))
        new = rng.choice(kinds[pattern])
        if pattern.startswith(b"'"):
            new = f"{pattern.split(b':')[0].decode()}: {new if '(' in new else repr(new)}"
        return re.sub(pattern, lambda _: new.encode(), member, count=1)

    return _change_member(content, rng, change)


def change_numbers(content, rng):
    """Give an array of an ``.npz`` file other values, with the right checksum."""

    def change(member):
        place = max(0, len(member) - 8 * rng.randint(1, 9))
        value = rng.choice(
            (np.nan, np.inf, -1.0, 1e300, np.uint64(2**64 - 1), np.int64(10**10), np.int64(-1))
        )
        return member[:place] + np.asarray(value).tobytes() + member[place + 8 :]

    return _change_member(content, rng, change)


def change_member(content, rng):
    """Damage a member of a zip archive, with the right checksum."""
    return _change_member(content, rng, lambda member: rng.choice(ANYWHERE)(member or b"?", rng))


def change_members(content, rng):
    """Leave out, rename, double, blow up or turn into a link a member of a zip archive."""
    action = rng.choice(("leave out", "rename", "double", "blow up", "link", "method"))
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w") as archive:
        chosen = rng.choice(source.namelist())
        for member in source.infolist():
            written = zipfile.ZipInfo(member.filename)
            written.compress_type, data = member.compress_type, source.read(member)
            if member.filename == chosen:
                if action == "leave out":
                    continue
                if action == "rename":
                    written.filename = rng.choice(
                        ("../up", "/etc/x", "C:x", "a\\b", "é" * 300, "x.npy", "x.png")
                    )
                if action == "blow up":
                    written.compress_type, data = zipfile.ZIP_DEFLATED, data + bytes(3_000_000)
                if action == "link":
                    written.external_attr = 0o120777 << 16
                if action == "method":
                    written.compress_type = rng.choice(
                        (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_STORED)
                    )
            archive.writestr(written, data)
            if member.filename == chosen and action == "double":
                written = zipfile.ZipInfo(f"./{member.filename}")
                archive.writestr(written, data)
    return target.getvalue()


def _change_member(content, rng, change):
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w") as archive:
        chosen = rng.choice(source.namelist())
        for member in source.infolist():
            data = source.read(member)
            archive.writestr(
                zipfile.ZipInfo(member.filename),
                change(data) if member.filename == chosen else data,
                member.compress_type,
            )
    return target.getvalue()


def mutated(content, rng, structured=()):
    """One damaged version of a file; half of them change it where its kind has something to change."""
    damage = rng.choice(structured if structured and rng.random() < 0.5 else ANYWHERE)
    return damage(content, rng)
