using KvNode.Raft.Core;
using KvNode.Raft.Transport;
using KvNode.Testing;
using Xunit;

namespace KvNode.Raft.Tests.Transport;

/// <summary>Frames on the wire: what goes in comes out, however it is cut; what is damaged never does.</summary>
public sealed class FrameTests
{
    private const int PayloadMax = 1 << 24;

    [Fact]
    public void EveryMessageSurvivesTheWireHoweverItIsCut() => Seeds.Run(nameof(EveryMessageSurvivesTheWireHoweverItIsCut), random =>
    {
        for (var round = 0; round < 60; round++)
        {
            var sent = new List<Message>();
            foreach (var type in Enum.GetValues<MessageType>())
            {
                // Now and then an entry that is larger than the reader's buffer.
                sent.Add(RandomMessages.Next(random, type, payloadMax: random.Next(20) == 0 ? 300_000 : 3_000));
            }

            var wire = sent.SelectMany(static message => RandomMessages.Frame(in message)).ToArray();
            var memory = new CountingMemory();
            var received = new List<Message>();
            Read(wire, memory, () => random.Next(1, random.Next(2) == 0 ? 100 : 100_000), message => received.Add(message));
            Assert.Equal(sent.Count, received.Count);
            for (var i = 0; i < sent.Count; i++)
            {
                RandomMessages.AssertSame(sent[i], received[i]);
            }

            Assert.Equal(0, memory.Held);
        }
    });

    [Fact]
    public void EveryFlippedBitIsNoticedAndNothingIsDelivered()
    {
        var message = RandomMessages.Next(new Random(5), MessageType.Append, entriesMax: 2, payloadMax: 40);
        message = message with { Entries = new[] { new LogEntry(new EntryId(3, 4), EntryKind.Normal, new byte[20]) } };
        var wire = RandomMessages.Frame(in message);
        for (var bit = 0; bit < wire.Length * 8; bit++)
        {
            wire[bit / 8] ^= (byte)(1 << (bit % 8));
            var memory = new CountingMemory();
            _ = Assert.Throws<PeerProtocolException>(
                () => Read(wire, memory, () => 1000, static _ => Assert.Fail("a damaged frame was delivered")));
            Assert.Equal(0, memory.Held);
            wire[bit / 8] ^= (byte)(1 << (bit % 8));
        }

        var delivered = 0;
        Read(wire, new CountingMemory(), () => 1000, _ => delivered++);
        Assert.Equal(1, delivered);
    }

    [Fact]
    public void TooLargeFrameIsRefusedBeforeMemoryIsSetAside()
    {
        var wire = new byte[PeerFrameHeader.Bytes + PayloadMax + 1];
        PeerFrameHeader.Seal(wire, FrameType.Forward, 0, default);
        var memory = new CountingMemory();
        _ = Assert.Throws<PeerProtocolException>(() => Read(wire, memory, () => 1000, static _ => { }));
        Assert.Equal(0, memory.Rented);
    }

    [Fact]
    public void EntriesThatDoNotFillTheirFrameAreRefused() => Seeds.Run(nameof(EntriesThatDoNotFillTheirFrameAreRefused), random =>
    {
        for (var round = 0; round < 300; round++)
        {
            var message = RandomMessages.Next(random, MessageType.Append, entriesMax: 3, payloadMax: 30);
            var body = RandomMessages.Frame(in message)[PeerFrameHeader.Bytes..];
            Mutate(random, ref body);

            // Sealed again, so that the checksums are right and only the structure can be wrong.
            var wire = new byte[PeerFrameHeader.Bytes + body.Length];
            body.CopyTo(wire, PeerFrameHeader.Bytes);
            PeerFrameHeader.Seal(wire, (FrameType)MessageType.Append, 0, default);
            try
            {
                Read(wire, new CountingMemory(), () => 1000, read =>
                    Assert.Equal(body.Length, MessageCodec.PayloadBytes(in read)));
            }
            catch (PeerProtocolException)
            {
                // Most of them.
            }
        }
    });

    [Fact]
    public void FramesHaveTheBytesThatOtherVersionsExpect()
    {
        var message = new Message
        {
            Type = MessageType.Append,
            Term = 2,
            Entry = new EntryId(1, 9),
            Commit = 8,
            ReadRound = 5,
            Reject = true,
            Hint = new EntryId(6, 7),
            Context = 10,
            Entries = new[] { new LogEntry(new EntryId(2, 10), EntryKind.Normal, "abc"u8.ToArray()) },
        };
        Assert.Equal(
            "A92CFB861B000000B200967405010000"
            + "02000000000000000100000000000000" + "09000000000000000800000000000000"
            + "05000000000000000600000000000000" + "07000000000000000A00000000000000"
            + "02000000000000000A000000000000000300000001000000" + "616263",
            Convert.ToHexString(RandomMessages.Frame(in message)));
    }

    private static void Mutate(Random random, ref byte[] body)
    {
        if (body.Length > 0 && random.Next(2) == 0)
        {
            Array.Resize(ref body, random.Next(body.Length));
        }

        if (body.Length > 0)
        {
            body[random.Next(body.Length)] ^= (byte)random.Next(256);
        }
    }

    private static void Read(byte[] wire, CountingMemory memory, Func<int> step, Action<Message> deliver)
    {
        using var reader = new FrameReader(memory, PayloadMax);
        var entries = Array.Empty<LogEntry>();
        var at = 0;
        while (true)
        {
            while (reader.TryTake(out var header, out var payload))
            {
                try
                {
                    if (MessageCodec.IsMessage(header.Type))
                    {
                        // The payload is released below: what is kept must be a copy.
                        var bytes = payload?.Memory.ToArray() ?? [];
                        var decoded = MessageCodec.Decode(in header, bytes, 1, 2, ref entries);
                        deliver(decoded with { Entries = decoded.Entries.ToArray() });
                    }
                }
                finally
                {
                    payload?.Release();
                }
            }

            if (at == wire.Length)
            {
                Assert.False(reader.IsMidFrame);
                return;
            }

            var bytesNow = Math.Min(Math.Min(step(), wire.Length - at), reader.Room.Length);
            wire.AsMemory(at, bytesNow).CopyTo(reader.Room);
            reader.Received(bytesNow);
            at += bytesNow;
        }
    }

    private sealed class CountingMemory : IFrameMemory
    {
        public int Held { get; private set; }

        public int Rented { get; private set; }

        public FrameBuffer Rent(int bytes)
        {
            Held++;
            Rented++;
            return new Counted(this, bytes);
        }

        private sealed class Counted(CountingMemory owner, int bytes) : FrameBuffer
        {
            private bool _released;

            public override Memory<byte> Memory { get; } = new byte[bytes];

            public override void Release()
            {
                Assert.False(_released);
                _released = true;
                owner.Held--;
            }
        }
    }
}
