"""CSV files: images, archives of them, labels and soft labels."""

import gzip
import io
import zipfile

IMAGE = " ".join(["0"] * 2304)


def csv() -> dict[str, bytes]:
    """The mode (0, 1, 2: labels required, optional, ignored, and `@7` is an image of sevens; 3,
    4, 5: the same, verbatim), then the file."""
    texts = {
        "notebook": "0emotion,pixels\n3,@0\n6,@7\n",
        "kaggle-test": "1id,pixels\n17,@0\nx9,@1\n",
        "fer2013": "0emotion,pixels,Usage\n0,@0,Training\n1,@1,PublicTest\n",
        "icml": "0emotion, Usage, pixels\n0,Training,@1\n2,PrivateTest,@2\n",
        "all-columns": "0id,emotion,pixels,Usage\na,1,@1,Training\nb,2,@2,Training\nc,3,@3,PublicTest\n",
        "byte-order-mark": "0\ufeffemotion,pixels\r\n0,\"@0\"\r\n2,\"@1\"\r\n",
        "no-last-line-break": "2pixels\r\n\"@0\"\r\n\"@1\"",
        "quoted": "1id,pixels,Usage\n\"1,7\",@0,\"Training\"\n\"x\"\"9\",\"@1\",\"Public\nTest\"\n",
        "quote-closed-early": "1pixels,Usage,id\n@0,\"a\"b\"c\",1\n@1,\"a\"b\"c,d\"\n",
        "quotes-within": "1pixels,Usage,note\n@0,5\" screen,x\"\"y\n@1,a,b\"\n",
        "ignored-columns": "2note,pixels,emotion,who\n,@0,0,\n\"a\nb\",@1,9,\"c,d\"\n",
        "blank-lines": "0emotion,pixels\n\n0,@0\n\r\n\n1,@1\n\n",
        "spaces": "0 emotion ,pixels\n 3 , @0 1\n4,@1 \n5,  @2  \n",
        "other-numbers": "3pixels\n" + " ".join(["007", "42", "0255"] * 768) + "\n",
        "plain-image": f"3emotion,pixels\n0,{IMAGE}\n",
        "bad-rows": "0emotion,pixels\n0,@0\n7,@0\nhappy,@0\n,@0\n1,1 2 3\n1,@0 1\n2,@0,5\n3\n4,@0\n",
        "bad-pixels": "3emotion,pixels\n0,300\n0,-1\n0,3.5\n0,1;2\n0,99999999999999999999\n0,x\n0,\n",
        "bad-first-row": "0emotion,pixels,Usage\n0,1 2 3,Training\n1,@1,Training\n",
        "open-quote": "0emotion,pixels\n0,\"@0\n1,@1\n",
        "open-quote-in-header": "2\"pixels\n@0\n@1\n",
        "blank-id": "1id,pixels\n ,@0\n\"\",@1\n\t,@2\n",
        "two-columns-named-pixels": "0emotion,pixels,pixels\n0,@0,@0\n",
        "semicolons": "0emotion;pixels\n0;@0\n",
        "header-only": "0emotion,pixels\n",
        "header-without-line-break": "0emotion,pixels",
        "old-mac": "2pixels\r@0\r@1\r",
        "lone-carriage-return": "1pixels,id\n@0,a\rb\n@1,c\r\r\n",
        "header-too-long": "0pixels,\"" + "@1" * 20 + "\"\n",
        "many-short-rows": "0emotion,pixels\n" + "1,2\n" * 300,
        "null": "0emotion,pixels\0\n0,@0\0\n\0\n",
        "empty": "0",
    }
    texts |= {
        "tabs": "0Emotion\tPIXELS\tusage\n3.0\t@0\tTraining\nhappy\t@1\ttraining\n",
        "semicolons-and-quotes": "1id;pixels;note\n\"a;b\";@0;\"x\ny\"\nc;@1;d\n",
        "similar-names": "1label,pixels,image_id,split\n3,@0,a,train\n",
        "words": "0emotion,pixels\nHappiness,@0\n neutral ,@1\nSAD,@2\n",
        "array": "3pixels\n\"[" + IMAGE.replace(" ", ",\n ") + "]\"\n",
        "map-table": "0map joy=happy,7=neutral,sad=skip\nemotion,pixels\njoy,@0\n7,@1\n4,@2\n",
        "map-list": "0map neutral,happy,skip\nemotion,pixels\n0,@0\n1,@1\n2,@2\n",
        "map-of-unknown": "0map joy=joyful\nemotion,pixels\n0,@0\n",
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["not-utf8"] = b"0emotion,pixels,note\n0,@0,\xff\n1,\xfe@1,a\n\xc3,@2,b\n"
    files["header-not-utf8"] = b"0emotion,pixels,\xff\n0,@0,a\n"
    return files


def archive() -> dict[str, bytes]:
    """How the file is stored (0 verbatim; 1 gzip, 2 zip, 3 UTF-16 of the text), then it."""
    text = "emotion,pixels\n3,@0\n6,@7\n"
    wrapped = {f"{name}-{what}": f"{mode}{body}".encode()
               for mode, name in [("1", "gzip"), ("2", "zip"), ("3", "utf16")]
               for what, body in [("text", text), ("bad-row", text + "9,@1\n"), ("old-mac", text.replace("\n", "\r")),
                                  ("tabs", text.replace(",", "\t")), ("nothing", "")]}
    plain = text.encode()
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ["a/x.csv", "__MACOSX/._x.csv", "README"]:
            file.writestr(zipfile.ZipInfo(name), plain)
    two = io.BytesIO()
    with zipfile.ZipFile(two, "w") as file:
        file.writestr(zipfile.ZipInfo("a.csv"), plain)
        file.writestr(zipfile.ZipInfo("b.tsv"), plain)
    packed = gzip.compress(plain, mtime=0)
    raw = {
        "plain": plain, "gz": packed, "gz-truncated": packed[:-9], "gz-twice": gzip.compress(packed, mtime=0),
        "gz-members": packed + packed, "zip-one": zipped.getvalue(), "zip-two": two.getvalue(),
        "zip-truncated": zipped.getvalue()[:-30], "png": b"\x89PNG\r\n\x1a\n", "tar": b"x" * 257 + b"ustar\0" + b"0" * 300,
        "utf16-no-mark": text.encode("utf-16-be"), "utf16-odd": text.encode("utf-16")[:-1], "json": b"[{\"emotion\": 1}]",
        "html": b"<!DOCTYPE html><p>", "lfs": b"version https://git-lfs.github.com/spec/v1\n", "zip-bomb-like": gzip.compress(b"7" * 3_000_000, mtime=0),
    }
    return wrapped | {name: b"0" + data for name, data in raw.items()}


def labels() -> dict[str, bytes]:
    """The number of classes (a digit), the requested ids, each followed by `|`, a newline, the
    file."""
    texts = {
        "plain": "7a|b|\nid,emotion\na,3\nb,6\n",
        "numbers": "70|1|2|\nid,emotion\n0,0\n1,1\n2,2\n3,6\n",
        "byte-order-mark": "7b|a|\n\ufeffid, emotion\r\na,3\r\nb,6\r\n",
        "probabilities": "3a|\nid,emotion,sad,happy,neutral\na,1,0.25,0.5,0.25\n",
        "other-columns": "7a|\nnote,emotion,id\n\"x\ny\",3,a\n",
        "quoted": "7a,b|x\"y|c\nd|\nid,emotion\n\"a,b\",1\n\"x\"\"y\",2\n\"c\nd\",3\n",
        "spaces": "7a b| c |\nid,emotion\n a b , 3 \n c, 1\n",
        "requested-twice": "7a|a|\nid,emotion\na,3\n",
        "listed-twice": "7a|\nid,emotion\na,1\na,2\n",
        "missing": "7a|z|\nid,emotion\na,1\n",
        "unknown-label": "7a|\nid,emotion\na,7\n",
        "no-label": "7a|\nid,emotion\na,\n",
        "no-number": "7a|\nid,emotion\na,happy\n",
        "two-classes": "2x|y|\nid,emotion\nx,0\ny,1\n",
        "label-map": "7a|b|\nmap joy=class 2,9=skip\nid,emotion\na,joy\nb,9\n",
        "class-names": "7id|emotion|\nid,emotion,id,emotion\nid,1,0,1\nemotion,0,1,0\n",
        "no-column": "7a|\nid,label\na,1\n",
        "too-few-fields": "7a|\nid,emotion\na\n",
        "too-many-fields": "7a|\nid,emotion\na,1,2\n",
        "open-quote": "7a|\nid,emotion\na,\"1\nb,2\n",
        "blank-lines": "7a|\nid,emotion\n\n\r\na,1\n\n",
        "blank-id": "7|\nid,emotion\n,1\n",
        "carriage-returns": "7a|b\r|\nid,emotion\ra,1\r\"b\r\",2\r",
        "unicode": "7\u00e4\U0001f600|\u3000|\nid,emotion\n\u00e4\U0001f600,1\n\u3000,2\n",
        "header-only": "7a|\nid,emotion\n",
        "nothing": "7a|\n",
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["not-utf8"] = b"7a\xff|\nid,emotion\na\xff,1\n"
    return files


def soft_labels() -> dict[str, bytes]:
    """The number of classes (a digit; the classes are a, b, ...), the requested ids, each
    followed by `|`, a newline, the file."""
    texts = {
        "votes": "30|2|\nid,a,b,c\n0,1,2,7\n1,0,0,10\n2,10,0,0\n",
        "probabilities": "2x|y|\nid,emotion,a,b\nx,0,0.75,0.25\ny,1,1e-3,0.999\n",
        "byte-order-mark": "2x|\n\ufeffid, a, b\r\nx, .5 ,5.\r\n",
        "other-columns": "2x|\nb,note,unknown,a,id\n1,\"p\nq\",3,2,x\n",
        "quoted": "2x,y|\nid,a,b\n\"x,y\",\"1\",2\n",
        "tiny-and-huge": "2x|y|\nid,a,b\nx,5e-324,0\ny,1e9,1e9\n",
        "extra-rows": "2x|\nid,a,b\ny,1,0\ny,1,0\nx,1,0\n",
        "no-votes": "2x|\nid,a,b\nx,0,-0\n",
        "negative": "2x|\nid,a,b\nx,-1,2\n",
        "not-a-number": "2x|\nid,a,b\nx,nan,1\n",
        "infinite": "2x|\nid,a,b\nx,inf,1\n",
        "too-large": "2x|\nid,a,b\nx,1e10,1\n",
        "a-word": "2x|\nid,a,b\nx,many,1\n",
        "empty-cell": "2x|\nid,a,b\nx,,1\n",
        "listed-twice": "2x|\nid,a,b\nx,1,0\nx,1,0\n",
        "requested-twice": "2x|x|\nid,a,b\nx,1,0\n",
        "missing": "2z|\nid,a,b\nx,1,0\n",
        "no-column": "3x|\nid,a,b\nx,1,0\n",
        "two-columns": "2x|\nid,a,b,a\nx,1,0,1\n",
        "too-few-fields": "2x|\nid,a,b\nx,1\n",
        "open-quote": "2x|\nid,a,b\nx,\"1,0\n",
        "blank-lines": "2x|\nid,a,b\n\n\r\nx,1,0\n\n",
        "header-only": "2x|\nid,a,b\n",
        "nothing": "2x|\n",
        "label-map": "2x|y|\nmap good=a,bad=b\nid,good,bad\nx,1,0\ny,0,2\n",
        "usages": "2x@Training|y@Training|\nUsage,Image name,b,a\nTraining,f0,1,3\nTraining,f1,0,1\nPrivateTest,f2,1,1\n",
        "by-position": "2x|y|\nUsage,Image name,b,a,unknown\nTraining,f0.png,1,3,9\nTraining,,0,0,10\n",
        "too-few-rows": "2x|y|\na,b\n1,2\n",
        "decimal-commas": "2x|y|\nID;A;B\nx;0,5;0,5\ny;1;0\n",
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["not-utf8"] = b"2x\xff|\nid,a,b\nx\xff,1,0\n"
    return files
