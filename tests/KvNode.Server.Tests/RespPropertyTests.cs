using System.Diagnostics;
using System.Globalization;
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using KvNode.Server.Resp;
using Xunit;

namespace KvNode.Server.Tests;

public sealed class RespPropertyTests
{
    private static readonly Config Seeded = Config.QuickThrowOnFailure.WithMaxTest(500).WithReplay(20260202UL, 104729UL);

    /// <summary>Bytes of which half have a meaning somewhere in the grammar.</summary>
    private static readonly Gen<byte> Byte =
        Gen.OneOf(Gen.Elements("*$\r\n 019-\"'\\x\t\0\xff"u8.ToArray()), Gen.Choose(0, 255).Select(value => (byte)value));

    private static readonly Gen<byte[][]> Command = Byte.ArrayOf().NonEmptyListOf().Select(args => args.ToArray()).Resize(20);

    private static readonly Gen<byte[][][]> Commands = Command.ArrayOf().Resize(20);

    [Fact]
    public void WhatIsWrittenIsReadBackWhereverItIsCut() =>
        Prop.ForAll(Commands.ToArbitrary(), Gen.Choose(0, int.MaxValue).ToArbitrary(), (commands, seed) =>
        {
            var input = commands.SelectMany(RespFeeder.Encode).ToArray();
            using var reader = new CommandReader(RespLimits.Default);
            var pieces = RespFeeder.CutAtRandom(input, new Random(seed), seed % 12);
            return RespFeeder.FeedSpans(reader, pieces).SequenceEqual(commands.Select(RespFeeder.Describe));
        }).Check(Seeded);

    [Fact]
    public void AnyBytesGiveTheSameWhereverTheyAreCut() =>
        Prop.ForAll(Byte.ArrayOf().Resize(60).ToArbitrary(), Gen.Choose(0, int.MaxValue).ToArbitrary(), (input, seed) =>
        {
            using var reader = new CommandReader(RespLimits.Default);
            var pieces = RespFeeder.CutAtRandom(input, new Random(seed), seed % 12);
            return RespFeeder.FeedSequence(reader, pieces).SequenceEqual(RespFeeder.FeedWhole(input));
        }).Check(Seeded);

    [Fact]
    public void AnInlineCommandEqualsItsMultibulkForm() =>
        Prop.ForAll(Command.ToArbitrary(), args =>
        {
            var line = string.Join(' ', args.Select((arg, place) => Quote(arg, place % 3)));
            return RespFeeder.FeedWhole(RespFeeder.Latin1(line + "\r\n"))
                .SequenceEqual(RespFeeder.FeedWhole(RespFeeder.Encode(args)));
        }).Check(Seeded);

    /// <summary>
    /// Damaged streams for two seconds, always the same ones in the same order: no exception, no hang, no more memory
    /// than a multiple of the input, and the same outcome however it is cut.
    /// </summary>
    [Fact]
    public void DamagedStreamsNeverThrowNorHangNorHoardMemory()
    {
        var limits = new RespLimits { ValueBytesMax = 300, BulkBytesMax = 100_000, ArgumentsMax = 1000, LineBytesMax = 200 };
        var corpus = RespCorpus.Cases.Select(item => RespFeeder.Latin1(item.Input)).Append(RespFeeder.Latin1(RespCorpus.Stream().Input)).ToArray();
        var random = new Random(57);
        var watch = Stopwatch.StartNew();
        var rounds = 0;
        while (watch.Elapsed < TimeSpan.FromSeconds(2) || rounds < 200)
        {
            var input = Damage(corpus[random.Next(corpus.Length)], corpus, random);
            var pieces = RespFeeder.CutAtRandom(input, random, random.Next(20));
            rounds++;
            try
            {
                CheckMemory(limits, pieces, input.Length);
                using var reader = new CommandReader(limits);
                Assert.Equal(RespFeeder.FeedWhole(input, limits), RespFeeder.FeedSequence(reader, pieces));
            }
            catch (Exception problem)
            {
                Assert.Fail($"round {rounds} input {Convert.ToHexString(input)}: {problem}");
            }
        }
    }

    private static void CheckMemory(RespLimits limits, byte[][] pieces, int inputBytes)
    {
        using var reader = new CommandReader(limits);
        var before = GC.GetAllocatedBytesForCurrentThread();
        var steps = 0;
        foreach (var piece in pieces)
        {
            var rest = piece.AsSpan();
            while (reader.TryRead(rest, out var taken, out _) is ReadStatus.Command or ReadStatus.TooLarge)
            {
                rest = rest[taken..];
                steps++;
            }

            if (reader.HeldBytes > (16 * inputBytes) + 8192)
            {
                Assert.Fail($"holds {reader.HeldBytes} bytes");
            }
        }

        var allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.InRange(steps, 0, inputBytes);
        Assert.InRange(allocated, 0, (64L * inputBytes) + 65_536);
    }

    private static byte[] Damage(byte[] input, byte[][] corpus, Random random)
    {
        var bytes = input.ToList();
        for (var times = random.Next(1, 5); times > 0; times--)
        {
            var at = random.Next(bytes.Count + 1);
            var length = random.Next(Math.Min(40, bytes.Count - at) + 1);
            switch (random.Next(8))
            {
                case 0 when at < bytes.Count:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1 when at < bytes.Count:
                    bytes[at] = ((byte[])[0x00, 0xFF, 0x7F, 0x80, (byte)'\r', (byte)'\n', (byte)'$', (byte)'*'])[random.Next(8)];
                    break;
                case 2:
                    bytes.RemoveRange(at, bytes.Count - at);
                    break;
                case 3:
                    bytes.InsertRange(at, bytes.GetRange(at, length));
                    break;
                case 4:
                    bytes.RemoveRange(at, length);
                    break;
                case 5:
                    bytes.InsertRange(at, corpus[random.Next(corpus.Length)]);
                    break;
                case 6:
                    ChangeNumber(bytes, at, random);
                    break;
                default:
                    bytes.InsertRange(at, Enumerable.Repeat((byte)random.Next(256), random.Next(500)));
                    break;
            }
        }

        return bytes.ToArray();
    }

    /// <summary>Replaces the next run of digits by a number that hurts.</summary>
    private static void ChangeNumber(List<byte> bytes, int at, Random random)
    {
        var start = bytes.FindIndex(at, value => value is >= (byte)'0' and <= (byte)'9');
        if (start < 0)
        {
            return;
        }

        var end = start;
        while (end < bytes.Count && bytes[end] is >= (byte)'0' and <= (byte)'9')
        {
            end++;
        }

        var old = long.TryParse(Encoding.ASCII.GetString(bytes.ToArray(), start, end - start), out var number) ? number : 0;
        long[] numbers = [0, -1, old - 1, old + 1, int.MaxValue, 1L + int.MaxValue, long.MaxValue, 301, 100_000, 100_001, 1000, 1001];
        bytes.RemoveRange(start, end - start);
        bytes.InsertRange(start, RespFeeder.Latin1(numbers[random.Next(numbers.Length)].ToString(CultureInfo.InvariantCulture)));
    }

    /// <summary>Three ways to quote that all say the same bytes.</summary>
    private static string Quote(byte[] arg, int way)
    {
        var plain = arg.Length > 0 && arg.All(value => value > ' ' && value is not ((byte)'"' or (byte)'\'')) && arg[0] != '*';
        if (way == 0 && plain)
        {
            return Encoding.Latin1.GetString(arg);
        }

        if (way == 1 && !arg.Any(value => value is (byte)'\n' or (byte)'\\'))
        {
            return "'" + Encoding.Latin1.GetString(arg).Replace("'", "\\'") + "'";
        }

        return "\"" + string.Concat(arg.Select(value => $"\\x{value:X2}")) + "\"";
    }
}
