"""Writes the English lexicon of `deployments/sounds`: how the synthesiser says words, alone and in sentences.

python -m tools.nano_whisper.lexicon deployments/sounds/english.tsv
"""

import random
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

from tools.nano_whisper import sentences
from tools.nano_whisper.phones import english_phones
from tools.nano_whisper.voice import Voice

COMMON = """
about above across after again against ago ahead almost alone along already also although among animal another
answer anything area arm army around art ask away baby back ball bank base battle because become bed been before
begin behind being believe best better between big bird birthday black blood blue board boat body both bottle
bottom box boy bread break breakfast brown build building burn business busy but buy by carry cat catch cause
center certain chance child children choose church circle class clear climb close clothes cloud color come
common complete condition contain continue control cool copy corn correct could country couple course cover
cross cut daily daughter day dead deal dear death decide deep develop did die different dinner direct distance
do does dog doing done double down draw dress drop dry during each ear early earth east edge effect egg eight
else end energy enough enter equal even ever evening every example eye face fact fall family far farm fast feed
feel feet few field fight fill final find fine finger finish first five floor flower fly food foot force forest
form four free fresh friend from front full fun future gave general get gift girl give glad glass gold gone
grass great green ground group grow guess guide had hair half hand happen happy hard has have head health hear
heard heart heat held hello help her high hill him history hit hold hole hope horse hot hour hundred husband
idea if important inside island job join just keep kept kind knew know lady lake land language last late laugh
law lay lead learn least leave leg less letter level lie life lift light line list live local log lost lot love
low lunch machine made main make man many map mark market master matter may maybe mean meat men middle might
mile million mind minute miss modern moment month moon more most mouth move much must name nation nature near
neck neighbor never new next nine north nose note nothing notice now number object ocean off office often oil
old once only or order other our out outside over own page paint pair paper part pass past pay peace people
perhaps person piece place plan plane plant play point poor position possible power present press pretty print
problem produce program proper pull push quick quickly race radio rain raise reach ready real reason receive
record region remember repeat report rest result rich rise rock role rule run safe said sail salt same sand save
say science score sea season seat second see seed seem seen sell send sense sent serve set seven several shape
share ship shirt shop short should shoulder shout show side sight sign silver similar since sister six size skin
sleep smile snow soft soil soldier some son soon sound south space speak special speech speed spell spend spring
square start state stay steel still stone store story strong student study such sudden sugar suggest summer sun
support sure surface surprise swim system tail talk tall taste team tell ten test than that their them then
there these thin thing think third those though thought thousand through throw tie time tiny together tomorrow
tone tooth top total touch toward town trade tree trip trouble true truth try twelve type uncle under unit until
upon use usual valley value vary very view village visit voice wait walk wall war warm was wash watch wave way
wear week weight well went west wheel when where whether which while white whole whose wide wife wild will wind
winter wire wish with without woman women wood word work worker world worry would wrong yard yellow yes yet zero
apple tiger lion dragon river three these those thirsty mother father brother pronunciation practice perfect
performance choreography rhythm rehearsal microphone audience melody chorus lyrics idol debut stage
"""
SENTENCES = 6000


def collect(voice: Voice) -> dict[str, Counter[str]]:
    rng, found = random.Random("lexicon"), defaultdict[str, Counter[str]](Counter)
    for word in {*COMMON.split(), *(word.lower() for word in sentences.vocabulary("en"))}:
        _count(voice, found, [word], 3)
    for _ in range(SENTENCES):
        _count(voice, found, re.findall(r"[a-z']+", sentences.draw(rng, "en").lower()), 1)
    return found


def _count(voice: Voice, found: dict[str, Counter[str]], words: list[str], weight: int) -> None:
    said = voice.phonemes(" ".join(words))
    if len(said) == len(words):  # else the synthesiser has joined some
        for word, names in zip(words, said, strict=True):
            found[word][" ".join(english_phones(names))] += weight


def main() -> None:
    lines = []
    for word, counts in sorted(collect(Voice()).items()):
        kept = [phones for phones, count in counts.most_common(3) if count > 1 and phones]
        lines.append(f"{word}\t{'|'.join(kept)}")
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
