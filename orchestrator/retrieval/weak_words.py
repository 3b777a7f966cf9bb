"""Words of a request that say little about the tool: grammar, and the ways to ask for something.

They count half and are not dropped: "all" tells "cancel all timers" from
"cancel the timer". The rarity of a word in descriptions cannot replace the
list: "recommend" is rare there and common in requests.
"""

_WORDS = """
a an the and or but if then else of to in on at by for from with about into over after before under between through
during without within as out up i me my mine myself we us our ours you your yours he him his she her it its they them
their this that these those there here is am are was were be been being do does did doing done have has had having can
could will would shall should may might must what which who whom whose when where why how not no nor so than too very
just also only any some all each every both more most other such own same please need want like get give make let help
know tell show find recommend suggest provide offer explain describe share search look looking check using use used
try information info details detail list options option ideas idea tips way ways example examples advice assistance
best good great better latest recent new current currently today now specific certain different various several
interested curious wondering able possible possibly available user users someone something anything thing things time
needs needed wanted thanks thank hello hi hey question questions answer work works working going trying getting taking
making create created creating based related regarding top popular
и в во не что он на я с со как а то все она так его но да ты к у же вы за бы по только ее мне было вот от меня еще нет
о из ему теперь когда даже ну ли если или ни быть был него до вас уж вам ведь там потом себя ничего ей может они тут
где есть надо ней для мы тебя их чем была сам чтоб без будто чего раз тоже себе под будет ж тогда кто этот того потому
этого какой ним здесь этом мой тем чтобы нее были куда зачем всех при об это эта эти порекомендуй посоветуй предложи
расскажи объясни опиши подскажи помоги помогите найди найти поищи дай дайте хочу хотел хотела нужно нужен нужна нужны
можно можешь можете пожалуйста информация информацию подробности детали список вариант варианты идея идеи способ
способы пример примеры совет советы лучший лучшие хороший новый новые последний последние свежие текущий текущие
сейчас сегодня разные интересно возможно доступные спасибо привет здравствуйте вопрос вопросы ответ работа работает
работать сделать делать создать создавать популярные
"""

WEAK_WORDS = frozenset(_WORDS.split())

WEAK = 0.5


def weighted_words(form: str) -> list[tuple[str, float]]:
    """The words of a normalised text, each with its weight."""
    return [(word, WEAK if word in WEAK_WORDS else 1.0) for word in form.split()]


def without_weak_words(form: str) -> str:
    """A normalised text as far as it says something by itself."""
    return " ".join(word for word in form.split() if word not in WEAK_WORDS)
