using System.Globalization;
using System.Text;
using KvNode.Server.Hosting;
using KvNode.Storage;
using KvNode.Storage.Snapshots;
using KvNode.Testing;
using Xunit;

namespace KvNode.Server.Tests;

public sealed class ParseSnapshotTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("kvnode-parse-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void OwnRecordsBecomeSetCommands()
    {
        var result = Run(Own(("", "empty"), ("a", ""), ("k2", "v\r\n")));
        Assert.Equal(0, result.Code);
        Assert.Equal("", result.Error);
        Assert.Equal(
            "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$5\r\nempty\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n"
            + "*3\r\n$3\r\nSET\r\n$2\r\nk2\r\n$3\r\nv\r\n\r\n",
            result.Text);
    }

    [Fact]
    public void ASnapshotWithoutRecordsGivesNoOutput()
    {
        foreach (var file in new[] { Own(), LegacySnapshotFile.GzipOf([]) })
        {
            var result = Run(file);
            Assert.Equal((0, "", ""), (result.Code, result.Text, result.Error));
        }
    }

    [Theory]
    [InlineData("kvnode", "ka=1 kb=2", SnapshotDialect.Auto, "a=1 b=2")]
    [InlineData("only the empty key", "k=1", SnapshotDialect.Auto, "=1")]
    [InlineData("bitraft by one key", "a=1 kb=2", SnapshotDialect.Auto, "a=1 kb=2")]
    [InlineData("bitraft by the empty key", "=1 kb=2", SnapshotDialect.Auto, "=1 kb=2")]
    [InlineData("bitraft by order", "kb=1 ka=2", SnapshotDialect.Auto, "kb=1 ka=2")]
    [InlineData("bitraft by a key twice", "ka=1 ka=2", SnapshotDialect.Auto, "ka=1 ka=2")]
    [InlineData("bitraft by word", "ka=1 kb=2", SnapshotDialect.Bitraft, "ka=1 kb=2")]
    [InlineData("kvnode by word", "kb=1 ka=2", SnapshotDialect.KvNode, "b=1 a=2")]
    public void OriginalsAreToldApartByContentOrByWord(string what, string stored, object given, string expected)
    {
        var dialect = (SnapshotDialect)given;
        var result = Run(Gzip(stored), dialect);
        Assert.True(result.Code == 0, $"{what}: {result.Error}");
        Assert.Equal(Commands(expected), result.Text);
        var guessed = dialect == SnapshotDialect.Auto && stored.Split(' ')[0].Length > expected.Split(' ')[0].Length;
        Assert.Equal(guessed, result.Error.Contains("--snapshot-format bitraft", StringComparison.Ordinal));
    }

    [Fact]
    public void AKeyWithoutThePrefixIsAnErrorWhenKvnodeIsSaid() =>
        AssertRefused(Gzip("ka=1 b=2"), "1 of 2 keys", SnapshotDialect.KvNode);

    [Fact]
    public void TheDialectDoesNotMatterForOwnFiles() =>
        Assert.Equal(Commands("ka=1"), Run(Own(("ka", "1")), SnapshotDialect.KvNode).Text);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void DamagedInputGivesNoOutputAtAll(int kind)
    {
        // Large enough that a converter which writes as it reads would have written by the time it sees the end.
        var noise = new byte[700_000];
        new Random(1).NextBytes(noise);
        var file = kind == 1
            ? Own(("a", "1"), ("b", Encoding.Latin1.GetString(noise)))
            : LegacySnapshotFile.Gzip([("ka"u8.ToArray(), "1"u8.ToArray()), ("kb"u8.ToArray(), noise)]);

        AssertRefused(file[..^1], "truncated");
        AssertRefused(file[..(file.Length / 2)], "truncated");
        AssertRefused([.. file, 0], "after the end");
        var flipped = file.ToArray();
        flipped[^9] ^= 0x10;
        AssertRefused(flipped, "");
    }

    [Fact]
    public void EveryCutGivesNoOutputAtAll()
    {
        foreach (var file in new[] { Own(("a", "1"), ("b", "2")), Gzip("ka=1 kb=2") })
        {
            for (var length = 0; length < file.Length; length++)
            {
                AssertRefused(file[..length], "");
            }
        }
    }

    [Fact]
    public void OtherFilesAreRefusedByName()
    {
        AssertRefused([], "empty");
        AssertRefused("hello"u8.ToArray(), "not a snapshot");
        AssertRefused("REDIS0011"u8.ToArray(), "not a snapshot");
        AssertRefused(LegacySnapshotFile.GzipOf([.. "SNAP0001"u8, .. new byte[24]]), "uhaha");
        AssertRefused(
            LegacySnapshotFile.GzipOf("just some compressed text, longer than a length"u8.ToArray()), "over the limit");
    }

    [Fact]
    public void ValuesThatSetCannotCarryAreRefused()
    {
        var text = new Record("a"u8.ToArray(), "1"u8.ToArray());
        AssertRefused(OwnOf(text, new Record("b"u8.ToArray(), [1], ValueTag.Hash)), "0x10");
        AssertRefused(OwnOf(new Record("a"u8.ToArray(), new byte[16], ValueTag.ExpiringString)), "0x01");
        AssertRefused(OwnOf(new Record("a"u8.ToArray(), [1], (ValueTag)0xEE)), "0xEE");
    }

    [Fact]
    public void KeysAtTheLimitPassAndLongerOnesDoNot()
    {
        var longest = new string('k', StoreLimits.KeyBytesMax);
        Assert.Equal(Commands($"{longest}=1"), Run(Own((longest, "1"))).Text);
        Assert.Equal(Commands($"{longest}=1"), Run(Gzip($"k{longest}=1")).Text);
        Assert.Equal(Commands($"{longest}=1"), Run(Gzip($"{longest}=1"), SnapshotDialect.Bitraft).Text);
        AssertRefused(Gzip($"k{longest}=1"), "key of 65537", SnapshotDialect.Bitraft);
        AssertRefused(Gzip($"kk{longest}=1"), "key of 65538");
    }

    [Fact]
    public void StandardInputIsReadWholeAndNothingIsLeftInTheTemporaryDirectory()
    {
        var file = Own(("a", "1"), ("b", "2"));
        Assert.Equal(Run(file).Text, Run(new PipeStream(file)).Text);
        Assert.Equal(Commands("a=1 b=2"), Run(new PipeStream(Gzip("ka=1 kb=2"))).Text);

        var cut = Run(new PipeStream(file[..^5]));
        Assert.Equal((65, ""), (cut.Code, cut.Text));
        Assert.Empty(Directory.GetFiles(Path.GetTempPath(), "kvnode-parse-*"));
    }

    [Fact]
    public void InputIsReadFromWhereItStands()
    {
        using var input = new MemoryStream([1, 2, 3, .. Own(("a", "1"))]);
        input.Position = 3;
        Assert.Equal(Commands("a=1"), Run(input).Text);
    }

    [Fact]
    public void FilesAndStandardInputAreChosenByName()
    {
        var path = Path.Combine(_directory, "state.bin");
        File.WriteAllBytes(path, Own(("a", "1")));
        using var error = new StringWriter(CultureInfo.InvariantCulture);
        using var output = new MemoryStream();
        Assert.Equal(0, ParseSnapshot.RunFile(path, Stream.Null, output, error));
        Assert.Equal(0, ParseSnapshot.RunFile("-", new PipeStream(Own(("b", "2"))), output, error));
        Assert.Equal(Commands("a=1 b=2"), Encoding.Latin1.GetString(output.ToArray()));

        Assert.Equal(66, ParseSnapshot.RunFile(path + ".none", Stream.Null, output, error));
        Assert.Equal(66, ParseSnapshot.RunFile(_directory, Stream.Null, output, error));
        Assert.Contains("state.bin.none", error.ToString());
    }

    [Fact]
    public void AnOutputThatCannotBeWrittenIsAnInputOutputError()
    {
        using var output = new FailingStream();
        using var error = new StringWriter(CultureInfo.InvariantCulture);
        Assert.Equal(74, ParseSnapshot.Run(new MemoryStream(Own(("a", "1"))), output, error));
        Assert.Contains("broken pipe", error.ToString());
    }

    [Theory]
    [InlineData(3, 400_000)]
    [InlineData(100_000, 0)]
    public void AFileThatChangesBetweenTheReadingsEndsInsideACommand(int count, int valueBytes)
    {
        // Damage is found inside the large values, and between commands where there are no values to be inside of.
        var random = new Random(2);
        var records = new Record[count];
        for (var i = 0; i < count; i++)
        {
            records[i] = new Record(Encoding.ASCII.GetBytes($"{i:D6}"), new byte[valueBytes]);
            random.NextBytes(records[i].Value);
        }

        var whole = OwnOf(records);
        var changed = whole.ToArray();
        changed[^10] ^= 1;
        var result = Run(new ChangingStream(whole, changed));

        Assert.Equal(65, result.Code);
        Assert.Contains("incomplete", result.Error);
        Assert.InRange(result.Text.Length, 1, int.MaxValue);
        Assert.False(IsWholeCommands(result.Text), "the output looks complete");
        Assert.True(IsWholeCommands(Run(whole).Text));
    }

    [Fact]
    public void MemoryStaysConstantForALargeValue()
    {
        using var file = new FileStream(Path.Combine(_directory, "large"), FileMode.Create, FileAccess.ReadWrite);
        using (var stream = new SnapshotStream(
            new SnapshotHeader(1, 1, 0, 1, []), new RecordSource([new Record("a"u8.ToArray(), new byte[100_000_000])])))
        {
            var piece = new byte[1 << 20];
            int count;
            while ((count = stream.Read(piece)) > 0)
            {
                file.Write(piece, 0, count);
            }
        }

        file.Position = 0;
        using var output = new CountingStream();
        var before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Equal(0, ParseSnapshot.Run(file, output, TextWriter.Null));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 4 << 20);
        Assert.Equal(100_000_000 + "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000000\r\n\r\n".Length, output.Written);
    }

    private static (int Code, string Text, string Error) Run(
        byte[] file, SnapshotDialect dialect = SnapshotDialect.Auto)
    {
        using var input = new MemoryStream(file);
        return Run(input, dialect);
    }

    private static (int Code, string Text, string Error) Run(
        Stream input, SnapshotDialect dialect = SnapshotDialect.Auto)
    {
        using var output = new MemoryStream();
        using var error = new StringWriter(CultureInfo.InvariantCulture);
        var code = ParseSnapshot.Run(input, output, error, dialect);
        return (code, Encoding.Latin1.GetString(output.ToArray()), error.ToString());
    }

    private static void AssertRefused(byte[] file, string message, SnapshotDialect dialect = SnapshotDialect.Auto)
    {
        var result = Run(file, dialect);
        Assert.Equal((65, ""), (result.Code, result.Text));
        Assert.Contains(message, result.Error);
        Assert.Single(result.Error.TrimEnd('\n').Split('\n'));
    }

    private static string Commands(string pairs)
    {
        var text = new StringBuilder();
        foreach (var (key, value) in Pairs(pairs))
        {
            _ = text.Append("*3\r\n$3\r\nSET\r\n")
                .Append(CultureInfo.InvariantCulture, $"${key.Length}\r\n{key}\r\n${value.Length}\r\n{value}\r\n");
        }

        return text.ToString();
    }

    private static IEnumerable<(string Key, string Value)> Pairs(string pairs) =>
        pairs.Split(' ').Select(pair => pair.Split('=')).Select(parts => (parts[0], parts[1]));

    private static byte[] Gzip(string pairs) => LegacySnapshotFile.Gzip(
        Pairs(pairs).Select(pair => (Encoding.Latin1.GetBytes(pair.Key), Encoding.Latin1.GetBytes(pair.Value))));

    private static byte[] Own(params (string Key, string Value)[] records) => OwnOf([.. records.Select(
        record => new Record(Encoding.Latin1.GetBytes(record.Key), Encoding.Latin1.GetBytes(record.Value)))]);

    private static byte[] OwnOf(params Record[] records)
    {
        using var stream =
            new SnapshotStream(new SnapshotHeader(1, 1, 0, records.Length, []), new RecordSource(records));
        using var file = new MemoryStream();
        var piece = new byte[100_000];
        int count;
        while ((count = stream.Read(piece)) > 0)
        {
            file.Write(piece, 0, count);
        }

        return file.ToArray();
    }

    /// <summary>True when the text is a sequence of whole SET commands.</summary>
    private static bool IsWholeCommands(string text)
    {
        const string Front = "*3\r\n$3\r\nSET\r\n";
        var at = 0;
        while (at < text.Length)
        {
            if (string.CompareOrdinal(text, at, Front, 0, Front.Length) != 0)
            {
                return false;
            }

            at += Front.Length;
            for (var bulk = 0; bulk < 2; bulk++)
            {
                var lineEnd = at < text.Length ? text.IndexOf("\r\n", at, StringComparison.Ordinal) : -1;
                if (lineEnd < 0 || text[at] != '$')
                {
                    return false;
                }

                at = lineEnd + 2 + int.Parse(text.AsSpan(at + 1, lineEnd - at - 1), CultureInfo.InvariantCulture) + 2;
                if (at > text.Length)
                {
                    return false;
                }
            }
        }

        return true;
    }

    private sealed record Record(byte[] Key, byte[] Value, ValueTag Tag = ValueTag.String);

    private sealed class RecordSource(IReadOnlyList<Record> records) : IRecordSource
    {
        private int _index = -1;

        public ReadOnlySpan<byte> Key => records[_index].Key;

        public ValueTag Tag => records[_index].Tag;

        public ReadOnlySpan<byte> Value => records[_index].Value;

        public bool MoveNext() => ++_index < records.Count;

        public void Dispose()
        {
        }
    }

    /// <summary>Can only be read once, and in odd pieces, as a pipe.</summary>
    private sealed class PipeStream(byte[] bytes) : MemoryStream(bytes)
    {
        public override bool CanSeek => false;

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override int Read(Span<byte> buffer) => base.Read(buffer[..Math.Min(buffer.Length, 13)]);

        public override int Read(byte[] buffer, int offset, int count) =>
            base.Read(buffer, offset, Math.Min(count, 13));

        public override void CopyTo(Stream destination, int bufferSize)
        {
            var piece = new byte[13];
            int count;
            while ((count = Read(piece, 0, piece.Length)) > 0)
            {
                destination.Write(piece, 0, count);
            }
        }
    }

    /// <summary>Gives other bytes once it has been read to its end.</summary>
    private sealed class ChangingStream(byte[] first, byte[] second) : MemoryStream(first.ToArray())
    {
        private bool _atEnd;

        public override long Position
        {
            get => base.Position;
            set
            {
                base.Position = value;
                if (_atEnd)
                {
                    base.Position = 0;
                    base.Write(second, 0, second.Length);
                    base.Position = value;
                }
            }
        }

        public override int Read(byte[] buffer, int offset, int count)
        {
            var read = base.Read(buffer, offset, count);
            _atEnd |= read == 0;
            return read;
        }
    }

    private sealed class FailingStream : MemoryStream
    {
        public override void Write(byte[] buffer, int offset, int count) => throw new IOException("broken pipe");

        public override void Write(ReadOnlySpan<byte> buffer) => throw new IOException("broken pipe");
    }

    private sealed class CountingStream : MemoryStream
    {
        public long Written { get; private set; }

        public override void Write(byte[] buffer, int offset, int count) => Written += count;

        public override void Write(ReadOnlySpan<byte> buffer) => Written += buffer.Length;
    }
}
