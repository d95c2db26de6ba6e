using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using KvNode.Raft.Wal;

namespace KvNode.Raft.Transport;

/// <summary>What a frame is. ON THE WIRE: never reused. 1 to 63 are the numbers of <see cref="Core.MessageType"/>.</summary>
internal enum FrameType : byte
{
    /// <summary>Nothing; shows that the connection lives.</summary>
    Ping = 64,

    /// <summary>Slots: term, incarnation, sequence. Payload: the batch.</summary>
    Forward = 65,

    /// <summary>Slots: sequence. Flags: the reason. Payload: text in UTF-8.</summary>
    ForwardRefused = 66,

    /// <summary>Flags: the request's kind. Payload: its body.</summary>
    Ask = 70,

    /// <summary>Flags: the reply's status. Payload: its body.</summary>
    Answer = 71,

    /// <summary>Slots: term, position's term and index, size, id's low and high half. Payload: meta data.</summary>
    Offer = 80,

    /// <summary>Slots: how many bytes the receiver has.</summary>
    Resume = 81,

    /// <summary>Slots: offset. Payload: content.</summary>
    Chunk = 82,

    /// <summary>All has been sent.</summary>
    Done = 83,

    /// <summary>Flags: a <see cref="SnapshotVerdict"/>.</summary>
    Verdict = 84,
}

/// <summary>Eight numbers whose meaning the frame's type decides; unused ones are 0.</summary>
[InlineArray(Count)]
internal struct FrameSlots
{
    public const int Count = 8;

    private ulong _first;
}

/// <summary>
/// The front of every frame, little-endian:
/// <code>
///  0 u32 CRC32C of bytes 4..79    4 u32 payload bytes    8 u32 CRC32C of the payload, 0 when there is none
/// 12 u8 type   13 u8 flags   14 u16 zero   16 u64[8] slots   80 payload
/// </code>
/// </summary>
/// <remarks>Two checksums, so that the length is known to be right before memory is set aside for it. Who sends and who
/// receives is not repeated here: the connection's handshake has proven it.</remarks>
internal struct PeerFrameHeader
{
    public const int Bytes = 80;

    public FrameType Type;
    public byte Flags;
    public int PayloadBytes;
    public uint PayloadCrc;
    public FrameSlots Slots;

    /// <summary>Writes the header in front of a payload that lies behind it already.</summary>
    /// <param name="frame">The whole frame.</param>
    public static void Seal(Span<byte> frame, FrameType type, byte flags, in FrameSlots slots)
    {
        var payload = frame[Bytes..];
        BinaryPrimitives.WriteInt32LittleEndian(frame[4..], payload.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(frame[8..], payload.IsEmpty ? 0 : Crc32C.Compute(payload));
        frame[12] = (byte)type;
        frame[13] = flags;
        BinaryPrimitives.WriteUInt16LittleEndian(frame[14..], 0);
        for (var i = 0; i < FrameSlots.Count; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(frame[(16 + (i * sizeof(ulong)))..], slots[i]);
        }

        BinaryPrimitives.WriteUInt32LittleEndian(frame, Crc32C.Compute(frame[4..Bytes]));
    }

    /// <exception cref="PeerProtocolException">The bytes are not the header of a frame that may be sent.</exception>
    public static PeerFrameHeader Decode(ReadOnlySpan<byte> source, int payloadBytesMax)
    {
        if (BinaryPrimitives.ReadUInt32LittleEndian(source) != Crc32C.Compute(source[4..Bytes]))
        {
            throw new PeerProtocolException("a frame header with a wrong checksum");
        }

        var header = new PeerFrameHeader
        {
            PayloadBytes = BinaryPrimitives.ReadInt32LittleEndian(source[4..]),
            PayloadCrc = BinaryPrimitives.ReadUInt32LittleEndian(source[8..]),
            Type = (FrameType)source[12],
            Flags = source[13],
        };
        if (header.PayloadBytes < 0 || header.PayloadBytes > payloadBytesMax)
        {
            throw new PeerProtocolException("a frame that is too large");
        }

        if (BinaryPrimitives.ReadUInt16LittleEndian(source[14..]) != 0
            || (header.PayloadBytes == 0 && header.PayloadCrc != 0))
        {
            throw new PeerProtocolException("a frame header with unknown fields");
        }

        for (var i = 0; i < FrameSlots.Count; i++)
        {
            header.Slots[i] = BinaryPrimitives.ReadUInt64LittleEndian(source[(16 + (i * sizeof(ulong)))..]);
        }

        return header;
    }
}

/// <summary>The other end sent what no peer sends. The connection ends; nothing was changed.</summary>
internal sealed class PeerProtocolException(string message) : IOException(message);
