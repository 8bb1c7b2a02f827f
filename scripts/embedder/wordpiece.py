"""BERT's uncased tokenizer, as engram-embed/src/tokenizer.rs has it."""

import unicodedata

CHARS_MAX = 100
UNKNOWN = 100


def is_cjk(char: str) -> bool:
    """Ideographs, which are words of their own."""
    code = ord(char)
    return (0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF or 0x20000 <= code <= 0x2A6DF
            or 0x2A700 <= code <= 0x2B81F or 0x2B820 <= code <= 0x2CEAF
            or 0xF900 <= code <= 0xFAFF or 0x2F800 <= code <= 0x2FA1F)


def is_punctuation(char: str) -> bool:
    """Cut off as a word of one character."""
    code = ord(char)
    if code < 128:
        return 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return unicodedata.category(char).startswith("P")


def words(text: str):
    """The words of a text: cleaned, lower-cased, without accents, punctuation apart."""
    clean = []
    for char in text:
        if char in "\t\n\r":
            clean.append(" ")
        elif char == "\ufffd" or unicodedata.category(char) in ("Cc", "Cf", "Cn", "Co"):
            continue
        elif char.isspace():
            clean.append(" ")
        elif is_cjk(char):
            clean.append(f" {char} ")
        else:
            clean.append(char)
    plain = unicodedata.normalize("NFD", "".join(clean))
    plain = "".join(c.lower() for c in plain if unicodedata.category(c) != "Mn")
    for chunk in plain.split():
        word = ""
        for char in chunk:
            if is_punctuation(char):
                if word:
                    yield word
                yield char
                word = ""
            else:
                word += char
        if word:
            yield word


class WordPiece:
    """The vocabulary, and the greedy search in it."""

    def __init__(self, vocabulary: list[str]):
        self.ids = {piece: number for number, piece in enumerate(vocabulary)}
        self.cache: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without [CLS] and [SEP]."""
        return [piece for word in words(text) for piece in self.word(word)]

    def word(self, word: str) -> list[int]:
        """The pieces of one word, or [UNK]."""
        if word not in self.cache:
            self.cache[word] = self.search(word)
        return self.cache[word]

    def search(self, word: str) -> list[int]:
        """Greedy, longest piece first."""
        if len(word) > CHARS_MAX:
            return [UNKNOWN]
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = self.ids.get(("##" if start else "") + word[start:end])
                if piece is not None:
                    found.append(piece)
                    start = end
                    break
            else:
                return [UNKNOWN]
        return found
