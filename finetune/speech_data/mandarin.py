# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: SIM905 - lists of words read best as text
"""Mandarin sentences of open vocabulary, out of the dictionary that jieba ships (MIT licence)."""

from __future__ import annotations

import importlib.util
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from duologue.finetune.speech_data.held_out import is_held_out_text
from duologue.finetune.speech_data.lexicon import WordBag
from duologue.runtime.errors import ConfigError

# Parts of speech as jieba writes them, by the names that templates use.
_BAGS = {
    "n": "noun", "v": "verb", "a": "adjective", "nr": "name", "ns": "place", "vn": "act",
    "d": "adverb", "i": "idiom", "l": "phrase", "t": "date", "s": "spot", "z": "state",
}  # fmt: skip
_SLOT = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"[\u4e00-\u9fff]{1,4}")
_LONGEST_VERB = 2
_DIGITS = "零一二三四五六七八九"

STATEMENTS = tuple(
    """
{name}在{place}{verb}{noun}。 我{date}要去{place}{verb}{noun}。 这个{noun}很{adjective}。
{noun}和{noun}都在{spot}。 他{adverb}{verb}了{number}个{noun}。 {name}说{noun}太{adjective}了。
我们{date}一起{verb}{noun}，好不好？ 他的{noun}是{adjective}的{noun}。
{place}有很多{adjective}的{noun}。 妈妈正在{verb}{noun}。 爸爸{adverb}喜欢{verb}。
如果你{verb}{noun}，我就{verb}{noun}。 因为{noun}很{adjective}，所以{name}{verb}了{noun}。
{noun}比{noun}更{adjective}。 昨天{name}{verb}了{noun}。
虽然{noun}很{adjective}，但是{noun}{adverb}{adjective}。 一共{number}块钱。
现在是{hour}点{minute}分。 他出生在{year}年{month}月{day}号。 {idiom}，这就是{noun}。
{name}老师，{phrase}是什么意思？ {noun}的{act}非常{adjective}。 请把{noun}放在{spot}。
从{place}到{place}要{number}公里。 我想买{number}个{noun}和{number}个{noun}。
大家都说{name}{idiom}。 {spot}有一个{adjective}的{noun}。 {date}的{noun}让人{verb}。
{noun}，{noun}，还有{noun}。 我觉得{act}和{act}同样{adjective}。
我叫{name}，我是{place}人。 你好，我是{name}，很高兴认识你。 孩子们正在{spot}里玩{noun}呢。
他把{noun}给了{name}的朋友。 {date}的时候，我已经{verb}完{noun}了。
你应该先{verb}{noun}，再{verb}{noun}。
为了{act}，我们可以试试{noun}。 我的{noun}被{name}{verb}走了。 关于{noun}的{act}，我自己也不清楚。
{adverb}说，{phrase}。 {name}跑得很快，可是{name}更快。 医生让她每天{verb}两次{noun}。
天气{adjective}，我们别{verb}了，好吗？ 他一边{verb}{noun}，一边{verb}{noun}。
{place}的冬天很冷，夏天很热。 只要{verb}，就能{verb}{noun}。 {idiom}，{idiom}。
{noun}里面有{noun}，外面有{noun}。 那个{adjective}的人就是{name}先生。
{noun}、{noun}和{noun}，你要哪一个？
星期{day}我们开会，请大家准备{noun}。 {state}的{noun}落在{spot}。 {phrase}，{idiom}，还是{noun}？
""".split()
)
QUESTIONS = tuple(
    """
你{verb}过{noun}吗？ {name}什么时候去{place}？ 为什么{noun}这么{adjective}？
谁{verb}了我的{noun}？ 你知道{noun}在哪里吗？ {noun}多少钱？ 你喜欢{noun}还是{noun}？
我们怎么去{place}？ 这是{noun}吗？ {place}的{noun}怎么样？ 你{date}有没有{verb}{noun}？
{name}和{name}是谁？ 现在几点了？ 请问，{noun}怎么走？ 你能帮我{verb}{noun}吗？
你吃{noun}了没有？ 哪个{noun}最{adjective}呢？ {name}，你觉得{noun}怎么样？
""".split()
)
REPLIES = tuple(
    """
是的，我{date}{verb}了。 不，{name}没有{verb}。 我不知道，你问{name}吧。 当然，就在{spot}。
因为{noun}太{adjective}。 {number}块。 谢谢你，{name}。 没关系。 {date}吧。
我也觉得很{adjective}。 在{place}。 可能是{noun}。 好的，没问题。 对不起，我在{verb}{noun}。
""".split()
)
SHORT = tuple(
    """
你好，{name}。 早上好。 晚安。 再见，{name}。 {noun}。 {idiom}。 欢迎来到{place}！ 真{adjective}！
{number}。 {phrase}。 {state}。 快{verb}！ 别{verb}。 {name}，{date}见。
""".split()
)
HELD_OUT = tuple(
    """
{date}我在{spot}看见了{name}的{noun}。 把{number}个{noun}送给{name}吧。
{place}人最爱{verb}{noun}。 没有{noun}就没有{noun}。 {name}为什么不{verb}{noun}？
听说{place}的{noun}{adverb}{adjective}。
""".split()
)
"""Templates that no training sentence comes from."""


class MandarinSentences:
    """Makes sentences for training, or such as training never shows.

    Raises:
        ConfigError: jieba is not installed.
    """

    def __init__(self, *, held_out: bool, dictionary: Path | None = None) -> None:
        self._held_out = held_out
        self._bags = _read_bags(dictionary or _jieba_dictionary())

    def sentence(self, random: Random) -> str:
        """Anything."""
        templates = random.choices((STATEMENTS, QUESTIONS, SHORT), weights=(70, 12, 18))[0]
        return self._fill(templates, random)

    def question(self, random: Random) -> str:
        """A question."""
        return self._fill(QUESTIONS, random)

    def reply(self, random: Random) -> str:
        """What might be said after a question."""
        return self._fill(REPLIES, random)

    def _fill(self, templates: tuple[str, ...], random: Random) -> str:
        template = random.choice(HELD_OUT if self._held_out else templates)
        return _SLOT.sub(lambda match: self._slot(match[1], random), template)

    def _slot(self, name: str, random: Random) -> str:
        if name in _NUMBERS:
            return _NUMBERS[name](random)
        return self._bags[name].draw(random)


def spell_mandarin(number: int) -> str:
    """A number below ten thousand in Mandarin.

    >>> spell_mandarin(12), spell_mandarin(305), spell_mandarin(2040)
    ('十二', '三百零五', '二千零四十')
    """
    if number < 10:
        return _DIGITS[number]
    if number < 20:
        return "十" + (_DIGITS[number % 10] if number % 10 else "")
    for scale, unit in ((1000, "千"), (100, "百"), (10, "十")):
        if number >= scale:
            rest = number % scale
            head = _DIGITS[number // scale] + unit
            if not rest:
                return head
            if rest < scale // 10:
                return head + "零" + spell_mandarin(rest)
            return head + ("一" if 10 <= rest < 20 else "") + spell_mandarin(rest)
    raise AssertionError("every number from 20 on has one of the units")


_NUMBERS: Mapping[str, Callable[[Random], str]] = {
    "number": lambda r: spell_mandarin(int(10 ** r.uniform(0.3, 4))),
    "hour": lambda r: spell_mandarin(r.randint(1, 12)),
    "minute": lambda r: spell_mandarin(r.randint(10, 59)),
    "month": lambda r: spell_mandarin(r.randint(1, 12)),
    "day": lambda r: spell_mandarin(r.randint(1, 31)),
    "year": lambda r: "".join(_DIGITS[int(digit)] for digit in str(r.randint(1900, 2040))),
}


def _jieba_dictionary() -> Path:
    spec = importlib.util.find_spec("jieba")
    if spec is None or spec.origin is None:
        raise ConfigError("jieba is not installed; allowed: pip install 'duologue[train]'")
    return Path(spec.origin).with_name("dict.txt")


def _read_bags(path: Path) -> dict[str, WordBag]:
    """Words by kind, each with its frequency; words held out for tests are left out."""
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for line in path.read_text(encoding="utf-8").splitlines():
        word, frequency, kind = line.split()
        bag = _BAGS.get(kind)
        fits = bag is not None and _WORD.fullmatch(word) is not None
        if bag is not None and fits and not (bag == "verb" and len(word) > _LONGEST_VERB):
            counts[bag][word] = int(frequency)
    return {
        name: WordBag({w: n for w, n in words.items() if not is_held_out_text(w)} or words)
        for name, words in counts.items()
    }
