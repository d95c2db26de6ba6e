using KvNode.Server.Resp;
using Xunit;

namespace KvNode.Server.Tests;

public sealed class RespLimitTests
{
    private const string ValueTooLarge = "too large: ERR value is larger than the allowed maximum (1000 bytes)";
    private const string CommandTooLarge = "too large: ERR command is larger than the allowed maximum (1049576 bytes)";

    // The command limit that follows from the value limit: 1000 + 1 MiB.
    private static readonly RespLimits Small = new() { ValueBytesMax = 1000, CommandBytesMax = 0 };

    public static TheoryData<string, int, string> LongLines => new()
    {
        { "", 65536, "" },
        { "", 65537, "error: ERR Protocol error: too big inline request" },
        { "*", 65535, "" },
        { "*", 65536, "error: ERR Protocol error: too big mbulk count string" },
        { "*1\r\n$", 65535, "" },
        { "*1\r\n$", 65536, "error: ERR Protocol error: too big bulk count string" },
        { "*1\r\n", 65537, "error: ERR Protocol error: too big bulk count string" },
    };

    [Theory]
    [MemberData(nameof(LongLines))]
    public void ALineMayHaveSixtyFourKibibytesAndNoMore(string start, int digits, string expected)
    {
        var input = RespFeeder.Latin1(start + new string('1', digits));
        string[] events = expected.Length == 0 ? [] : [expected];
        var random = new Random(digits);
        using var reader = new CommandReader(RespLimits.Default);

        Assert.Equal(events, RespFeeder.FeedSpans(reader, [input]));
        reader.Reset();
        Assert.Equal(events, RespFeeder.FeedSpans(reader, RespFeeder.CutAtRandom(input, random, 50)));
    }

    [Fact]
    public void TheDefaultsAreTheOnesThatAreDocumented()
    {
        Assert.Equal(512 * 1024 * 1024, RespLimits.Default.BulkBytesMax);
        Assert.Equal(1_048_576, RespLimits.Default.ArgumentsMax);
        Assert.Equal(65_536, RespLimits.Default.LineBytesMax);
        Assert.Equal(67_108_864, RespLimits.Default.ValueBytesMax);
        Assert.Equal(256 * 1024 * 1024, RespLimits.Default.CommandBytesMax);
        Assert.Equal(513 * 1024 * 1024, (RespLimits.Default with { ValueBytesMax = 512 * 1024 * 1024 }).CommandBytesMax);
        Assert.Equal(
            "ERR value is larger than the allowed maximum (67108864 bytes)"u8, RespLimits.Default.ValueTooLargeText());
    }

    [Fact]
    public void ATooLongValueGoesByAndTheNextCommandIsReadHoweverItArrives()
    {
        byte[] input =
        [
            .. Set(1000), .. Set(1001), .. "*1\r\n$4\r\nPING\r\n"u8,
            .. RespFeeder.Encode(new byte[2000], "SET"u8.ToArray(), new byte[3000], "x"u8.ToArray()), .. Set(7),
        ];
        var random = new Random(1001);
        var expected = RespFeeder.FeedWhole(input, Small);
        Assert.Equal(5, expected.Count);
        Assert.Equal([ValueTooLarge, "[\"PING\"]", ValueTooLarge], expected.Skip(1).Take(3));

        using var reader = new CommandReader(Small);
        Assert.Equal(expected, RespFeeder.FeedSpans(reader, input.Select(value => (byte[])[value])));
        for (var round = 0; round < 200; round++)
        {
            Assert.Equal(expected, RespFeeder.FeedSequence(reader, RespFeeder.CutAtRandom(input, random, 12)));
            Assert.Equal(0, reader.HeldBytes);
        }
    }

    [Fact]
    public void ATooLongCommandGoesByAndTheNextCommandIsReadHoweverItArrives()
    {
        var many = RespFeeder.Encode(Enumerable.Repeat(new byte[1000], 1100).ToArray());
        var fits = RespFeeder.Encode(Enumerable.Repeat(new byte[993], 1048).ToArray());
        Assert.InRange(fits.Length, Small.CommandBytesMax - 1000, Small.CommandBytesMax);
        byte[] input = [.. many, .. "PING\r\n"u8, .. fits];
        var random = new Random(1100);

        using var reader = new CommandReader(Small);
        for (var round = 0; round < 4; round++)
        {
            var events = RespFeeder.FeedSpans(reader, RespFeeder.CutAtRandom(input, random, round * 20));
            Assert.Equal(3, events.Count);
            Assert.Equal([CommandTooLarge, "[\"PING\"]"], events.Take(2));
        }
    }

    [Fact]
    public void TheCommandLimitIsExact()
    {
        var limits = new RespLimits { ValueBytesMax = 100, CommandBytesMax = 0 };
        Assert.Equal((1024 * 1024) + 100, limits.CommandBytesMax);

        foreach (var (length, expected) in ((int, string)[])
            [(limits.CommandBytesMax, "["), (limits.CommandBytesMax + 1, "too large: ERR command is larger than")])
        {
            var input = CommandOfLength(length);
            Assert.Equal(length, input.Length);
            Assert.StartsWith(expected, Assert.Single(RespFeeder.FeedWhole(input, limits)));
            using var reader = new CommandReader(limits);
            Assert.StartsWith(expected, Assert.Single(RespFeeder.FeedSpans(reader, RespFeeder.Cut(input, [5000, 9000]))));
        }
    }

    [Fact]
    public void InlineCommandsObeyTheValueLimitToo()
    {
        var input = RespFeeder.Latin1($"SET k {new string('v', 1001)}\r\nSET k {new string('v', 5)}\r\n");

        Assert.Equal([ValueTooLarge, "[\"SET\",\"k\",\"vvvvv\"]"], RespFeeder.FeedWhole(input, Small));
    }

    [Fact]
    public void WhatIsSkippedMustStillBeWellFormed()
    {
        var set = Set(1001);
        set[^1] = (byte)'x';
        string[] expected = ["error: ERR Protocol error: invalid bulk length"];

        Assert.Equal(expected, RespFeeder.FeedWhole(set, Small));
        using var reader = new CommandReader(Small);
        Assert.Equal(expected, RespFeeder.FeedSpans(reader, set.Select(value => (byte[])[value])));

        set = Set(1001);
        set[^2] = (byte)'x';
        Assert.Equal(expected, RespFeeder.FeedWhole(set, Small));
        reader.Reset();
        Assert.Equal(expected, RespFeeder.FeedSpans(reader, set.Select(value => (byte[])[value])));

        reader.Reset();
        Assert.Equal(expected, RespFeeder.FeedSpans(reader, [RespFeeder.Latin1("*2\r\n$1001\r\n"), new byte[1001], "\r\n$536870913\r\n"u8.ToArray()]));
    }

    [Fact]
    public void SkippingStoresNothing()
    {
        var piece = new byte[64 * 1024];
        using var reader = new CommandReader(Small);
        Assert.Equal(ReadStatus.NeedMore, reader.TryRead("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$104857600\r\n"u8, out _, out _));

        var waiting = 0;
        var held = 0;
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 1600; i++)
        {
            waiting += reader.TryRead(piece, out _, out _) == ReadStatus.NeedMore ? 1 : 0;
            held += reader.BufferedBytes + reader.HeldBytes;
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.Equal(104_857_600, 1600 * piece.Length);
        Assert.Equal(1600, waiting);
        Assert.Equal(0, held);
        Assert.Equal(ReadStatus.TooLarge, reader.TryRead("\r\n"u8, out _, out _));
        Assert.Equal(ReadStatus.Command, reader.TryRead("PING\r\n"u8, out _, out _));
    }

    [Fact]
    public void AClientThatAnnouncesMuchAndStallsHoldsOnlyWhatItSent()
    {
        var limits = new RespLimits { ValueBytesMax = 512 * 1024 * 1024 };
        using var reader = new CommandReader(limits);
        var before = GC.GetAllocatedBytesForCurrentThread();

        Assert.Equal(ReadStatus.NeedMore, reader.TryRead("*1048576\r\n$536870912\r\n"u8, out _, out _));
        Assert.InRange(reader.HeldBytes, 1, 1024);
        Assert.Equal(ReadStatus.NeedMore, reader.TryRead(new byte[100_000], out _, out _));

        Assert.Equal(100_022, reader.BufferedBytes);
        Assert.InRange(reader.HeldBytes, 100_022, 4 * 100_022);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 8 * 100_022);
    }

    [Fact]
    public void ALargeCommandLeavesNoLargeBufferBehind()
    {
        var big = Set(1_000_000);
        using var reader = new CommandReader(RespLimits.Default);
        Assert.Equal(ReadStatus.NeedMore, reader.TryRead(big.AsSpan(0, 500_000), out _, out _));
        Assert.Equal(ReadStatus.Command, reader.TryRead(big.AsSpan(500_000), out _, out _));
        Assert.True(reader.HeldBytes > 1_000_000);

        // The client goes on at once and is never idle.
        Assert.Equal(ReadStatus.NeedMore, reader.TryRead("PI"u8, out _, out _));
        Assert.InRange(reader.HeldBytes, 1, 64 * 1024);
    }

    /// <summary>A command of about a mebibyte: "*NNNN", arguments of 108 bytes, and two shorter ones for the rest.</summary>
    private static byte[] CommandOfLength(int length)
    {
        const int Header = 7;
        const int Full = 108;
        const int AroundShort = 7;
        var full = (length - Header - 34) / Full;
        var rest = length - Header - (full * Full);
        return RespFeeder.Encode(
            [.. Enumerable.Repeat(new byte[100], full), new byte[(rest / 2) - AroundShort], new byte[rest - (rest / 2) - AroundShort]]);
    }

    private static byte[] Set(int valueBytes) =>
        RespFeeder.Encode("SET"u8.ToArray(), "k"u8.ToArray(), Enumerable.Repeat((byte)'v', valueBytes).ToArray());
}
