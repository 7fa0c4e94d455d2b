"""`fedn model encrypt` and `decrypt`: files of models, on a data owner's machine. No server is asked."""

from pathlib import Path

import click

from fedn.cli.connection import json_option
from fedn.cli.output import Output, size
from fedn.protocol.errors import InvalidInput, LimitExceeded

_key = click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File that `fedn keys create` wrote.",
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@_key
@json_option
def encrypt(file: Path, target: Path, key_file: Path, out: Output) -> None:
    """Encrypt the model in FILE (safetensors or npz) to TARGET, for example before it is a seed.

    \b
        fedn model encrypt seed.npz seed.safetensors --key federation.key
        fedn model seed seed.safetensors
    """
    from fedn.models.files import read_tensors, write_bytes  # heavy: only what encrypts needs them
    from fedn.privacy.keys import read_key
    from fedn.privacy.models import ModelCipher

    cipher = ModelCipher(read_key(key_file))
    data = cipher.encrypt(read_tensors(file), cipher.alone)
    write_bytes(target, data)
    _tell(target, len(data), cipher.key_id, out)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@_key
@json_option
def decrypt(file: Path, target: Path, key_file: Path, out: Output) -> None:
    """Decrypt the model, or the predictions, in FILE to TARGET (.safetensors or .npz).

    \b
        fedn model download --out model.safetensors
        fedn model decrypt model.safetensors plain.npz --key federation.key
    """
    decrypt_file(file, target, key_file)
    _tell(target, target.stat().st_size, "", out)


def decrypt_file(file: Path, target: Path, key_file: Path) -> None:
    """Writes the plain model. InvalidInput (`not_encrypted`, …) where there is none to be had."""
    from fedn.models.encrypted import is_encrypted  # heavy: only what decrypts needs them
    from fedn.models.files import MAX_BYTES, write_tensors
    from fedn.models.wire import decode, read_spec
    from fedn.privacy.keys import read_key
    from fedn.privacy.models import ModelCipher

    if file.stat().st_size > MAX_BYTES:
        raise LimitExceeded("model_too_large", f"the file has more than {MAX_BYTES} bytes", where={"file": file})
    data = file.read_bytes()
    if not is_encrypted(read_spec(data)):
        raise InvalidInput("not_encrypted", "the model is not encrypted", fix="Use it as it is.", where={"file": file})
    cipher = ModelCipher(read_key(key_file))
    write_tensors(target, decode(cipher.decrypt(data)))


def _tell(target: Path, size_bytes: int, key_id: str, out: Output) -> None:
    if out.json:
        out.data({"file": str(target), "size_bytes": size_bytes, "key_id": key_id})
    else:
        out.say(f"Wrote {target} ({size(size_bytes)}" + (f", encrypted with {key_id})." if key_id else ")."))
