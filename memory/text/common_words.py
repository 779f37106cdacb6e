"""Words that say little by themselves in English, for what has to tell names and topics from the rest. Pure data.

In other languages nothing is dropped: words that stand in most utterances then weigh little by their own frequency.
"""

from typing import Final

# Articles, pronouns, prepositions, auxiliaries and what else binds sentences together, as `str.split` has them without marks.
FUNCTION_WORDS: Final = frozenset(
    """
    a about above after again against all also am an and any are aren as at away back be because been before being below
    between both but by came can cannot could couldn did didn do does doesn doing don done down during each either else
    ever every few for from further get gets getting go goes going gone got had hadn has hasn have haven having he her here
    hers herself him himself his how however i if in into is isn it its itself just let lets like ll made make makes many
    may me might mine more most much must my myself neither no nor not now of off on once one only onto or other our ours
    ourselves out over own put quite rather re really same say see shall she should shouldn so some something such than
    that the their theirs them themselves then there these they thing things this those through to too under until up upon
    us ve very was wasn way we well went were weren what when where whether which while who whom whose why will with within
    without won would wouldn yes yet you your yours yourself yourselves im ive ill id youre thats its dont cant didnt
    """.split()
)
# What people say to be polite, to begin or to fill a pause. An utterance of nothing else is dropped from summaries.
FILLER_WORDS: Final = frozenset(
    """
    ah aha alright aw awesome bye certainly cheers congrats congratulations cool course dear exactly fine glad good goodbye
    great gosh ha haha hello hey hi hmm hm huh indeed kind kidding lol lovely maybe mm mmm nah nice oh ok okay oops ow
    perfect please pleasure right sorry sounds sure thank thanks thx totally true ugh uh um welcome whoa wonderful wow yay
    yeah yep yup absolutely definitely amazing actually guess mean know think want look looks need tell said
    """.split()
)
