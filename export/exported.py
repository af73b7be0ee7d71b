"""What an export needs, out of a model that is exported already, so that whoever has it can make it small another way.

Its weights are widened to floats (`models.file_weights`): what they lost the first time is lost, and the network that
the new files are held against is that of the widened ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import keras
import numpy as np

from export.asset import Card
from export.convert import Endpoint
from export.rnnt import endpoints as recogniser_endpoints
from export.tacotron import endpoints as voice_endpoints
from export.vocoder import vocoder_endpoints
from export.voice import TrainedVoice
from models.recipe import Trained
from models.rnnt import PRESETS as RECOGNISERS
from models.rnnt import Rnnt
from models.tacotron import PRESETS as VOICES
from models.tacotron import Tacotron
from models.vocoder import PRESETS as VOCODERS
from models.vocoder import Vocoder
from models.vocoder_start import take_vocoder
from models.voice_start import take_voice
from models.warm_start import take_weights
from ondevice.errors import InputError
from ondevice.manifest import PIECES_FILE, TranscribeManifest
from ondevice.manifest_base import Manifest
from ondevice.phonemes import SYMBOLS
from ondevice.sound_lexicon import SoundLexicon
from ondevice.transfer import ProsodyScale
from ondevice.voice_manifest import VocoderManifest, VoiceManifest

Network = TypeVar("Network", bound=keras.Model)


def card(manifest: Manifest) -> Card:
    """The model's card, without numbers that were measured of it and not of what will be made."""
    settings = {name: getattr(manifest, name) for name in ("search", "second_pass") if hasattr(manifest, name)}
    return Card(
        manifest.name, manifest.description, manifest.licence, manifest.language, data=manifest.data, **settings
    )  # fmt: skip


def recogniser(manifest: TranscribeManifest) -> tuple[Trained, SoundLexicon | None]:
    """The recogniser, and the lexicon of its second pass. Raises InputError when its file cannot be taken apart."""
    if PIECES_FILE not in manifest.files:
        raise InputError(f"{manifest.directory}: no {PIECES_FILE}; expected what `ondevice export rnnt` made")
    heads = manifest.signatures["encoder"].outputs
    phones = heads["phones"][-1] if "phones" in heads else 0
    sizes = {"features": manifest.features.stacked_width, "symbols": len(manifest.tokens), "phones": phones}
    rnnt = _fitting(manifest, {n: replace(p, **sizes) for n, p in RECOGNISERS.items()}, Rnnt, recogniser_endpoints)
    take_weights(rnnt, manifest.model_path)
    lexicon = SoundLexicon.load(manifest.lexicon_path) if manifest.lexicon_path else None
    mean, std = manifest.mean_and_std
    named = lexicon.phones if lexicon else ()
    return Trained(rnnt, manifest.directory / PIECES_FILE, mean, std, manifest.features, named), lexicon


def voice(manifest: VoiceManifest) -> TrainedVoice:
    """The voice. Raises InputError when its file cannot be taken apart."""
    if manifest.symbols != SYMBOLS:
        raise InputError(f"{manifest.directory}: its symbols are not those of this version of ondevice")
    tacotron = _fitting(manifest, VOICES, Tacotron, voice_endpoints)
    take_voice(tacotron, manifest.model_path)
    mean, std = manifest.mean_and_std
    scale = [np.asarray(side, np.float32) for side in (manifest.prosody_mean, manifest.prosody_std)]
    return TrainedVoice(
        tacotron, mean, std, manifest.neutral_style[0], manifest.pronunciation_path, manifest.vocoder,
        ProsodyScale(*scale) if manifest.prosody_mean else None, manifest.style_reach,
    )  # fmt: skip


def vocoder(manifest: VocoderManifest) -> Vocoder:
    """The vocoder. Raises InputError when its file cannot be taken apart."""
    if manifest.wavenet:
        raise InputError(f"{manifest.directory}: a WaveNet; expected the run it was trained in")
    made = _fitting(manifest, VOCODERS, Vocoder, vocoder_endpoints)
    take_vocoder(made, manifest.model_path)
    return made


def _fitting(
    manifest: Manifest, presets: Mapping[str, Any], network: Callable[[Any], Network],
    endpoints: Callable[[Network], Mapping[str, Endpoint]],
) -> Network:  # fmt: skip
    """An untrained network of the preset whose signatures take what those of the manifest take."""
    wanted = {name: {**spec.inputs, **spec.state} for name, spec in manifest.signatures.items()}
    for sizes in presets.values():
        made = network(sizes)
        made.build()
        taken = endpoints(made)
        if {name: {tensor: shape for tensor, (shape, _) in e.inputs.items()} for name, e in taken.items()} == wanted:
            return made
    raise InputError(
        f"{manifest.directory}: of the sizes of no preset ({', '.join(presets)}); expected the run it was trained in"
    )
