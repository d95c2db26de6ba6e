using System.Buffers;
using System.Globalization;
using System.Text;
using KvNode.Server.Resp;
using Xunit;

namespace KvNode.Server.Tests;

/// <summary>
/// Feeds a reader and writes down what it says, one line an event, so that two ways of feeding can be compared:
/// <c>["SET","k","v"]</c>, <c>too large: text</c>, <c>error: text</c> (the last event, if any).
/// </summary>
internal static class RespFeeder
{
    public static byte[] Latin1(string text) => Encoding.Latin1.GetBytes(text);

    public static string Describe(params byte[][] args) =>
        "[" + string.Join(',', args.Select(arg => "\"" + Printable(arg) + "\"")) + "]";

    /// <summary>As a client library writes a command.</summary>
    public static byte[] Encode(params byte[][] args)
    {
        using var bytes = new MemoryStream();
        bytes.Write(Latin1($"*{args.Length}\r\n"));
        foreach (var arg in args)
        {
            bytes.Write(Latin1($"${arg.Length}\r\n"));
            bytes.Write(arg);
            bytes.Write("\r\n"u8);
        }

        return bytes.ToArray();
    }

    /// <summary>Each piece is one receive, given as a span.</summary>
    public static List<string> FeedSpans(CommandReader reader, IEnumerable<byte[]> pieces)
    {
        var events = new List<string>();
        foreach (var piece in pieces)
        {
            var at = 0;
            while (true)
            {
                var status = reader.TryRead(piece.AsSpan(at), out var taken, out var args);
                Assert.InRange(taken, 0, piece.Length - at);
                at += taken;
                if (status == ReadStatus.NeedMore)
                {
                    Assert.Equal(piece.Length, at);
                    break;
                }

                Note(reader, status, args, events);
                if (status == ReadStatus.ProtocolError)
                {
                    return events;
                }
            }
        }

        return events;
    }

    /// <summary>Each group of segments is one receive, given as a sequence.</summary>
    public static List<string> FeedSequence(CommandReader reader, params byte[][][] receives)
    {
        var events = new List<string>();
        foreach (var segments in receives)
        {
            var input = Segment.Join(segments);
            ReadStatus status;
            do
            {
                var before = input.Length;
                status = reader.TryRead(ref input, out var args);
                Assert.True(input.Length <= before);
                Note(reader, status, args, events);
                if (status == ReadStatus.ProtocolError)
                {
                    return events;
                }
            }
            while (status != ReadStatus.NeedMore);

            Assert.True(input.IsEmpty, "NeedMore takes everything");
        }

        return events;
    }

    public static List<string> FeedWhole(byte[] input, RespLimits? limits = null)
    {
        using var reader = new CommandReader(limits ?? RespLimits.Default);
        return FeedSpans(reader, [input]);
    }

    public static byte[][] Cut(byte[] input, IEnumerable<int> places)
    {
        var pieces = new List<byte[]>();
        var start = 0;
        foreach (var place in places.Append(input.Length))
        {
            pieces.Add(input[start..place]);
            start = place;
        }

        return pieces.ToArray();
    }

    public static byte[][] CutAtRandom(byte[] input, Random random, int cuts) =>
        Cut(input, Enumerable.Range(0, cuts).Select(_ => random.Next(input.Length + 1)).Order());

    private static void Note(CommandReader reader, ReadStatus status, CommandArgs args, List<string> events)
    {
        switch (status)
        {
            case ReadStatus.Command:
                events.Add(Describe(Copy(args)));
                CheckRaw(args);
                break;
            case ReadStatus.TooLarge:
                events.Add("too large: " + Printable(reader.Error));
                break;
            case ReadStatus.ProtocolError:
                events.Add("error: " + Printable(reader.Error));
                Assert.Equal(0, reader.HeldBytes);
                break;
        }
    }

    /// <summary>The raw bytes are the exact multibulk form, and the log's parser reads the same arguments from them.</summary>
    private static void CheckRaw(CommandArgs args)
    {
        Assert.Equal(Encode(Copy(args)), args.Raw.ToArray());
        var scratch = Array.Empty<ArgRange>();
        Assert.True(CommandReader.TryParse(args.Raw, ref scratch, out var parsed, out var consumed));
        Assert.Equal(args.Raw.Length, consumed);
        Assert.Equal(args.Count, parsed.Count);
        for (var i = 0; i < args.Count; i++)
        {
            Assert.True(args[i].SequenceEqual(parsed[i]));
        }
    }

    public static byte[][] Copy(CommandArgs args)
    {
        var copy = new byte[args.Count][];
        for (var i = 0; i < copy.Length; i++)
        {
            copy[i] = args[i].ToArray();
        }

        return copy;
    }

    private static string Printable(ReadOnlySpan<byte> bytes)
    {
        var text = new StringBuilder();
        foreach (var value in bytes)
        {
            _ = value is >= 0x20 and < 0x7F and not (byte)'\\' and not (byte)'"'
                ? text.Append((char)value)
                : text.Append(CultureInfo.InvariantCulture, $"\\x{value:x2}");
        }

        return text.ToString();
    }

    private sealed class Segment : ReadOnlySequenceSegment<byte>
    {
        public static ReadOnlySequence<byte> Join(byte[][] pieces)
        {
            if (pieces.Length == 0)
            {
                return ReadOnlySequence<byte>.Empty;
            }

            var first = new Segment { Memory = pieces[0] };
            var last = first;
            foreach (var piece in pieces.Skip(1))
            {
                var next = new Segment { Memory = piece, RunningIndex = last.RunningIndex + last.Memory.Length };
                last.Next = next;
                last = next;
            }

            return new ReadOnlySequence<byte>(first, 0, last, last.Memory.Length);
        }
    }
}
