"""Language identification against a table of short and mixed prompts, as people type them."""

import time

import pytest

from serve_app.policies.language import identify

KO = """안녕
안녕하세요
ㅋㅋㅋ
ㅠㅠ 너무 어려워
ㅇㅇ
네
2x + 3 = 11 풀어줘
3 더하기 4는?
python으로 정렬 함수 짜줘
파이썬 코드 좀 고쳐줘
이 에세이 첨삭해 주세요
この文を한국어로 번역해줘
'I love you'를 한국어로 어떻게 말해?
다음 문장을 영어로 번역해줘: I want to go to school tomorrow.
"What time is it?" 이 문장 무슨 뜻이야?
I have been to Seoul twice. 이 문장 문법 맞아?
TCP랑 UDP 차이가 뭐야
BTS 노래 추천해줘
GPU가 뭔가요?
오늘 날씨 어때
React useEffect 설명 좀
미적분이 뭐야?
数学은 한국어로 뭐예요?
猫が好き 무슨 뜻이야?
你好는 무슨 뜻인가요
한국어
서울
이차방정식의 근의 공식을 알려 주세요.
def f(x): return x 이 함수 설명해줘
https://example.com/abc 이 글 요약해줘
```python
for i in range(10):
    print(i)
``` 이 코드 뭐가 문제야?
SQL JOIN 종류 알려줘
수능 영어 빈칸 문제 푸는 요령
Docker 설치가 안 돼요 ㅠㅠ
hello를 한국어로
ChatGPT랑 Claude 중에 뭐가 더 좋아?
빠르게 답해줘
100점 맞았어!! 😄
사랑해
오늘 배운 단어: apple, banana, grape 로 문장 만들어줘
나는 student입니다
"東京"은 어떻게 읽어?
Python 리스트 정렬 how to
안녕 hello
이거 영어로 뭐라고 해? I miss you
please 알려줘
apple이 한국어로 뭐야
나 I'm hungry라고 말하고 싶어
다음 코드를 리뷰해 주세요  import os print(os.getcwd())
Next.js 배포 에러
중국어로 '고마워'는?
谢谢는 어떻게 발음해요?
저는 BTS의 Dynamite를 좋아해요
수학 문제: If x + 2 = 5, what is x?
한글
A와 B 중 뭐가 더 큰가요? A = 3/4, B = 2/3
Can you explain this? 라는 문장을 번역해줘
ㅎㅇ
what is love 번역
LGTM이 무슨 뜻
Kubernetes 파드가 CrashLoopBackOff 상태로 계속 재시작되는데 원인이 뭘까"""

EN = """hello
Hi there!
yes
ok thanks
What does 사랑해 mean?
How do you say 안녕하세요 in Korean?
Explain 微积分 in simple words
Explain photosynthesis
What is 2 + 2?
solve 3x + 5 = 20
Translate "오늘 날씨가 정말 좋네요" into English
translate 오늘 날씨가 정말 좋네요 산책하러 갈까요 into English
Translate to English: 오늘은 학교에 가고 싶지 않아요
Is 日本語 hard to learn?
What's the difference between 은 and 는?
Can you read 東京大学?
Write a haiku about autumn
I love kimchi
My teacher said 화이팅 to me, what is that?
def add(a, b): return a + b
fix this code
Please correct my essay.
Why is the sky blue?
Who wrote Hamlet?
breakfast ideas
Seoul
Tell me about BTS
The café near Gangnam is nice
Use the word 정 in an English sentence
How to pronounce ありがとう
What is 你好
Check my grammar: She go to school
See https://ko.wikipedia.org/wiki/서울 and summarise it
asdf
Hello world 🌍
Give me three synonyms for "happy"
the quick brown fox
1. What is a prime number? 2. List five of them.
I'm learning Korean and the word 눈 confuses me
mean, median and mode
essay feedback please
Is naïve spelled with an umlaut?
Good morning, teacher!
Difference between 가다 and 오다
What is the meaning of 알려줘
I want to learn 한국어
annyeonghaseyo
Summarize: 인공지능은 인간의 학습 능력을 구현한 것이다.
How many strokes does 龍 have?
2+2?  please explain
Write a Python function that reverses a string
'감사합니다' means?
The kanji 学 vs 學
rap lyrics
Give me a K-pop dance routine in 4 steps
Fix: She don't like it
résumé tips"""

JA = """こんにちは
東京大学に行きたい
日本語
ありがとう
おはようございます
カタカナ
今日の天気はどうですか
微分積分を教えてください
Pythonでソート関数を書いて
안녕하세요を日本語に訳してください
「사랑해」はどういう意味ですか
この英文を直してください: I has a pen
数学の宿題を手伝って
経済学
駅
天気予報
東京駅
電話番号
基本的人権
図書館
猫が好き
Hello は日本語で何ですか
ﾊﾛｰ
GPUとは
二次方程式の解の公式は?
時間
音楽が好きです
勉強する
佐々木さん
「How are you?」の意味を教えて
これは何？
学生です
北海道の桜
自転車の価格
韓国語
試験の対策
読書感想文の書き方
ChatGPTって何
漢字の読み方
宿題が終わらない😭
明日テストがある
沖縄旅行
大丈夫です
了解しました
英語で「ありがとう」は？
円の面積の公式
Python とは
数学Ⅰの問題
自動車
先生、質問があります
漢字検定
「학교」の読み方は"""

ZH = """你好
今天天气怎么样
谢谢
我爱你
什么是微积分？
请把这句话翻译成英文
请用中文解释 recursion
我想去北京大学
中国
學習中文很有趣
謝謝你
這是什麼意思
臺灣
帮我写一篇作文
用Python写一个排序函数
안녕하세요是什么意思？
"hello"用中文怎么说
为什么天空是蓝色的
数学题
解方程 2x+3=7
人工智能
早上好
请问这个单词怎么读
我不明白
老师说明天有考试
英语语法
帮我检查语法: She go to school
多少钱
没问题
你会说英语吗
电脑
图书馆
经济学
我们的学校
韩国语
这道题怎么做？
請幫我修改作文
他是谁
什么意思
飞机
学习编程难吗
日语
你是谁？
语言模型
解释一下量子力学
帮我用英文写一封邮件
怎么学好韩语？
中国历史
请问'사랑'是什么意思
Python怎么安装
二次函数
作文批改
台灣的首都在哪裡
早安"""

OTHER = """Привет
Как дела?
สวัสดีครับ
مرحبا كيف حالك
Γειά σου
नमस्ते
Xin chào, bạn có khỏe không?
¿Cómo estás?
Bonjour, comment ça va?
Wie heißt du und wo wohnst du?
Qué es la fotosíntesis
Объясни интегралы
Merhaba, nasılsın?
Ich habe eine Frage zur Physik
Me gusta la música
Ciao, come stai?
Que horas são?
Selamat pagi
שלום"""

NONE = [
    "",
    "   ",
    "12345",
    "3 + 4 = 7",
    "2026-11-20",
    "😀😀",
    "!!!",
    "https://example.com/",
    "```\nprint(1)\n```",
    "010-1234-5678",
]


def labelled() -> list[tuple[str, str | None]]:
    """The samples; lines of a code block belong to one sample."""
    samples: list[tuple[str, str | None]] = []
    for label, text in {"ko": KO, "en": EN, "ja": JA, "zh": ZH, "other": OTHER}.items():
        open_block = False
        for line in text.split("\n"):
            if open_block:
                samples[-1] = (f"{samples[-1][0]}\n{line}", label)
            else:
                samples.append((line, label))
            open_block ^= line.count("```") % 2 == 1
    return samples + [(text, None) for text in NONE]


def test_the_table_is_large_enough() -> None:
    labels = [label for _, label in labelled()]
    assert len(labels) >= 120
    assert all(labels.count(label) >= 30 for label in ("ko", "en", "ja", "zh"))


def test_accuracy_over_the_table() -> None:
    samples = labelled()
    wrong = [(text, label, identify(text)) for text, label in samples if identify(text) != label]
    assert len(wrong) <= 0.03 * len(samples), wrong


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("안녕", "ko"),
        ("hello", "en"),
        ("東京大学に行きたい", "ja"),
        ("日本語", "ja"),
        ("今天天气怎么样", "zh"),
        ("この文を한국어로 번역해줘", "ko"),
        ("What does 사랑해 mean?", "en"),
        ("python으로 정렬 함수 짜줘", "ko"),
        ("Explain 微积分 in simple words", "en"),
        ("ㅋㅋㅋ", "ko"),
        ("Привет", "other"),
        ("12345", None),
    ],
)
def test_prompts_that_must_be_right(text: str, language: str | None) -> None:
    assert identify(text) == language


def test_decomposed_hangul_is_korean() -> None:
    assert identify("\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165") == "ko"


def test_code_and_links_do_not_count() -> None:
    assert identify("```python\nfor word in words: print(word)\n```\n고쳐줘") == "ko"
    assert identify("https://example.com/a/long/english/path 요약") == "ko"


def test_the_request_after_a_long_paste_decides() -> None:
    assert identify("The quick brown fox jumps over the lazy dog. " * 500 + "\n이 글을 요약해줘") == "ko"


@pytest.mark.parametrize(
    "text", ["가" * 4_000_000, "“" * 1_000_000, "a@" * 1_000_000, "`" * 1_000_000, "<a" * 1_000_000]
)
def test_time_is_bounded(text: str) -> None:
    start = time.thread_time()
    identify(text)
    assert time.thread_time() - start < 0.25
