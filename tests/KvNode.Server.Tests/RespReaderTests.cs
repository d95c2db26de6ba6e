using KvNode.Server.Resp;
using Xunit;

namespace KvNode.Server.Tests;

public sealed class RespReaderTests
{
    public static TheoryData<int> CaseNumbers => new(Enumerable.Range(0, RespCorpus.Cases.Length));

    [Theory]
    [MemberData(nameof(CaseNumbers))]
    public void EveryCaseIsReadAsRedisReadsIt(int number)
    {
        var (input, events) = RespCorpus.Cases[number];

        Assert.Equal(events, RespFeeder.FeedWhole(RespFeeder.Latin1(input)));
    }

    [Theory]
    [MemberData(nameof(CaseNumbers))]
    public void EveryCaseIsReadTheSameByteByByteInEverySplitAndInSegments(int number)
    {
        var (text, events) = RespCorpus.Cases[number];
        var input = RespFeeder.Latin1(text);
        var bytes = input.Select(value => (byte[])[value]).ToArray();
        using var reader = new CommandReader(RespLimits.Default);

        Assert.Equal(events, RespFeeder.FeedSpans(reader, bytes));
        reader.Reset();
        Assert.Equal(events, RespFeeder.FeedSequence(reader, bytes));
        for (var at = 0; at <= input.Length; at++)
        {
            var halves = RespFeeder.Cut(input, [at]);
            reader.Reset();
            Assert.Equal(events, RespFeeder.FeedSpans(reader, halves));
            reader.Reset();
            Assert.Equal(events, RespFeeder.FeedSequence(reader, halves));
            reader.Reset();
            Assert.Equal(events, RespFeeder.FeedSequence(reader, [halves[0]], [halves[1]]));
        }
    }

    [Fact]
    public void EveryPrefixOfAStreamGivesTheWholeCommandsInItAndNoError()
    {
        var (text, events) = RespCorpus.Stream();
        var input = RespFeeder.Latin1(text);
        Assert.True(events.Length > 30);

        var seen = 0;
        for (var length = 0; length <= input.Length; length++)
        {
            var got = RespFeeder.FeedWhole(input[..length]);
            Assert.Equal(events.Take(got.Count), got);
            Assert.True(got.Count >= seen);
            seen = got.Count;
        }

        Assert.Equal(events.Length, seen);
    }

    [Fact]
    public void AStreamIsReadTheSameHoweverItIsSegmented()
    {
        var (text, events) = RespCorpus.Stream();
        var input = RespFeeder.Latin1(text);
        var random = new Random(4920);
        using var reader = new CommandReader(RespLimits.Default);
        for (var round = 0; round < 300; round++)
        {
            // Cuts may coincide: empty segments are part of the exercise.
            var receives = RespFeeder.CutAtRandom(input, random, random.Next(6))
                .Select(receive => RespFeeder.CutAtRandom(receive, random, random.Next(9)))
                .ToArray();
            Assert.Equal(events, RespFeeder.FeedSequence(reader, receives));
            Assert.Equal(0, reader.BufferedBytes);
            Assert.Equal(0, reader.HeldBytes);
        }
    }

    [Fact]
    public void ACommandInOneSegmentIsParsedInPlace()
    {
        var input = RespFeeder.Encode("SET"u8.ToArray(), "k"u8.ToArray(), "v"u8.ToArray());
        using var reader = new CommandReader(RespLimits.Default);

        Assert.Equal(ReadStatus.Command, reader.TryRead(input, out var taken, out var args));
        Assert.Equal(input.Length, taken);
        Assert.True(args.Raw.Overlaps(input));
        Assert.Equal(0, reader.HeldBytes);
    }

    [Fact]
    public void AGatheredCommandStaysValidUntilTheNextCall()
    {
        var input = RespFeeder.Encode("SET"u8.ToArray(), "k"u8.ToArray(), "value"u8.ToArray());
        using var reader = new CommandReader(RespLimits.Default);

        Assert.Equal(ReadStatus.NeedMore, reader.TryRead(input.AsSpan(0, 10), out _, out _));
        Assert.Equal(10, reader.BufferedBytes);
        Assert.Equal(ReadStatus.Command, reader.TryRead(input.AsSpan(10), out _, out var args));
        Assert.Equal(0, reader.BufferedBytes);
        Array.Clear(input);
        Assert.Equal("value"u8, args[2]);
        Assert.Equal(ReadStatus.NeedMore, reader.TryRead([], out _, out _));
        Assert.Equal(0, reader.HeldBytes);
    }

    [Fact]
    public void AfterAProtocolErrorNothingMoreIsReadUntilReset()
    {
        using var reader = new CommandReader(RespLimits.Default);

        Assert.Equal(ReadStatus.ProtocolError, reader.TryRead("*x\r\nPING\r\n"u8, out _, out _));
        Assert.Equal(ReadStatus.ProtocolError, reader.TryRead("PING\r\n"u8, out var taken, out _));
        Assert.Equal(0, taken);
        Assert.Equal(ReadStatus.ProtocolError, reader.TryRead([], out _, out _));
        Assert.Equal(RespError.InvalidMultibulkLength, reader.Error);

        reader.Reset();
        Assert.Equal(ReadStatus.Command, reader.TryRead("PING\r\n"u8, out _, out _));
    }

    [Fact]
    public void ResetForgetsAHalfReadCommand()
    {
        using var reader = new CommandReader(RespLimits.Default);
        Assert.Equal(ReadStatus.NeedMore, reader.TryRead("*2\r\n$4\r\nEC"u8, out _, out _));

        reader.Reset();

        Assert.Equal(0, reader.BufferedBytes);
        Assert.Equal(0, reader.HeldBytes);
        Assert.Equal(ReadStatus.Command, reader.TryRead("*1\r\n$4\r\nPING\r\n"u8, out _, out _));
    }

    [Fact]
    public void ReadingCommandsAllocatesNothing()
    {
        var set = RespFeeder.Encode("SET"u8.ToArray(), new byte[16], new byte[100]);
        byte[] pipeline = [.. set, .. set, .. set, .. "SET a 'b c'\r\n"u8];
        using var reader = new CommandReader(RespLimits.Default);
        var least = long.MaxValue;
        for (var attempt = 0; attempt < 5; attempt++)
        {
            // The least of a few: the shared pool may be trimmed at any moment by a collection elsewhere.
            var before = GC.GetAllocatedBytesForCurrentThread();
            var commands = ReadInHalves(reader, pipeline, 200);
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
            Assert.Equal(800, commands);
        }

        Assert.Equal(0, least);
    }

    [Fact]
    public void ACommandOfOneMebibyteFedByteByByteIsLinear()
    {
        // A reader that looked again at what it has seen would take 5e11 steps, that is minutes.
        var input = RespFeeder.Encode("SET"u8.ToArray(), "k"u8.ToArray(), new byte[1024 * 1024]);
        using var reader = new CommandReader(RespLimits.Default);
        var commands = 0;
        var before = GC.GetAllocatedBytesForCurrentThread();
        var watch = System.Diagnostics.Stopwatch.StartNew();
        for (var at = 0; at < input.Length; at++)
        {
            commands += reader.TryRead(input.AsSpan(at, 1), out _, out _) == ReadStatus.Command ? 1 : 0;
            Assert.True(commands == 1 || reader.BufferedBytes == at + 1);
        }

        Assert.Equal(1, commands);
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20), $"took {watch.Elapsed}");
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 5L * 1024 * 1024);
    }

    [Fact]
    public void ManyArgumentsFedByteByByteAreLinear()
    {
        var input = RespFeeder.Encode(Enumerable.Repeat("x"u8.ToArray(), 100_000).ToArray());
        using var reader = new CommandReader(RespLimits.Default);
        var count = 0;
        for (var at = 0; at < input.Length; at++)
        {
            if (reader.TryRead(input.AsSpan(at, 1), out _, out var args) == ReadStatus.Command)
            {
                count = args.Count;
            }
        }

        Assert.Equal(100_000, count);
        Assert.Equal(ReadStatus.NeedMore, reader.TryRead([], out _, out _));
        Assert.Equal(0, reader.HeldBytes);
    }

    [Fact]
    public void TheLogParserWalksConcatenatedCommandsAndRefusesAnythingElse()
    {
        var first = RespFeeder.Encode("SET"u8.ToArray(), "k"u8.ToArray(), "v"u8.ToArray());
        var second = RespFeeder.Encode(Enumerable.Repeat("key"u8.ToArray(), 40).ToArray());
        byte[] log = [.. first, .. second];
        var scratch = new ArgRange[2];

        Assert.True(CommandReader.TryParse(log, ref scratch, out var args, out var consumed));
        Assert.Equal(first.Length, consumed);
        Assert.Equal("v"u8, args[2]);
        Assert.True(CommandReader.TryParse(log.AsSpan(consumed), ref scratch, out args, out consumed));
        Assert.Equal(second.Length, consumed);
        Assert.Equal(40, args.Count);
        Assert.Equal(second, args.Raw.ToArray());

        for (var length = 0; length < first.Length; length++)
        {
            Assert.False(CommandReader.TryParse(first.AsSpan(0, length), ref scratch, out _, out consumed));
            Assert.Equal(0, consumed);
        }

        foreach (var malformed in (string[])["", "PING\r\n", "*0\r\n", "*-1\r\n", "*1\r\n$-1\r\n", "*1\r\n$4\r\nPINGxx", "*1\r\n$04\r\nPING\r\n", "*1\r\n:4\r\nPING\r\n", "*1048577\r\n", "*1\r\n$2147483647\r\nx\r\n", "*1\r\n$999999999\r\nx\r\n"])
        {
            Assert.False(CommandReader.TryParse(RespFeeder.Latin1(malformed), ref scratch, out _, out consumed));
            Assert.Equal(0, consumed);
        }
    }

    [Theory]
    [InlineData("0", 0L)]
    [InlineData("-1", -1L)]
    [InlineData("9223372036854775807", long.MaxValue)]
    [InlineData("-9223372036854775808", long.MinValue)]
    [InlineData("", null)]
    [InlineData("-", null)]
    [InlineData("-0", null)]
    [InlineData("+1", null)]
    [InlineData("01", null)]
    [InlineData(" 1", null)]
    [InlineData("1 ", null)]
    [InlineData("1.0", null)]
    [InlineData("1e3", null)]
    [InlineData("9223372036854775808", null)]
    [InlineData("-9223372036854775809", null)]
    public void IntegersHaveOneFormOnly(string text, long? expected)
    {
        var found = RespNumber.TryParse(RespFeeder.Latin1(text), out var number);

        Assert.Equal(expected, found ? number : null);
    }

    private static int ReadInHalves(CommandReader reader, byte[] pipeline, int rounds)
    {
        var commands = 0;
        for (var round = 0; round < rounds; round++)
        {
            var cut = round % pipeline.Length;
            commands += ReadAll(reader, pipeline.AsSpan(0, cut)) + ReadAll(reader, pipeline.AsSpan(cut));
        }

        return commands;
    }

    private static int ReadAll(CommandReader reader, ReadOnlySpan<byte> input)
    {
        var commands = 0;
        while (reader.TryRead(input, out var taken, out _) == ReadStatus.Command)
        {
            commands++;
            input = input[taken..];
        }

        return commands;
    }
}
