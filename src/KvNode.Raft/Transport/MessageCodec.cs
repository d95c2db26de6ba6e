using System.Buffers.Binary;
using KvNode.Raft.Core;

namespace KvNode.Raft.Transport;

/// <summary>
/// Messages of the core as frames. Slots: term, entry's term and index, commit, read round, hint's term and index, context.
/// Flags: 1 reject, 2 force. Payload: the configuration of an InstallSnapshot; the entries of an Append, each
/// <code>
///  0 u64 term   8 u64 index   16 u32 payload bytes   20 u8 kind   21 u8[3] zero   24 payload
/// </code>
/// </summary>
internal static class MessageCodec
{
    public const int EntryHeaderBytes = 24;

    private const byte RejectFlag = 1;
    private const byte ForceFlag = 2;

    /// <summary>Length of the payload that <see cref="Encode"/> writes.</summary>
    public static long PayloadBytes(in Message message)
    {
        if (message.Type == MessageType.InstallSnapshot)
        {
            return message.Membership.Length;
        }

        var bytes = 0L;
        foreach (ref readonly var entry in message.Entries.Span)
        {
            bytes += EntryHeaderBytes + entry.Payload.Length;
        }

        return bytes;
    }

    /// <param name="frame">Header and exactly <see cref="PayloadBytes"/> more.</param>
    public static void Encode(in Message message, Span<byte> frame)
    {
        var target = frame[PeerFrameHeader.Bytes..];
        message.Membership.Span.CopyTo(target);
        foreach (ref readonly var entry in message.Entries.Span)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(target, entry.Id.Term);
            BinaryPrimitives.WriteUInt64LittleEndian(target[8..], entry.Id.Index);
            BinaryPrimitives.WriteInt32LittleEndian(target[16..], entry.Payload.Length);
            BinaryPrimitives.WriteUInt32LittleEndian(target[20..], (byte)entry.Kind);
            entry.Payload.Span.CopyTo(target[EntryHeaderBytes..]);
            target = target[(EntryHeaderBytes + entry.Payload.Length)..];
        }

        var slots = new FrameSlots();
        slots[0] = message.Term;
        slots[1] = message.Entry.Term;
        slots[2] = message.Entry.Index;
        slots[3] = message.Commit;
        slots[4] = message.ReadRound;
        slots[5] = message.Hint.Term;
        slots[6] = message.Hint.Index;
        slots[7] = message.Context;
        var flags = (message.Reject ? RejectFlag : 0) | (message.Force ? ForceFlag : 0);
        PeerFrameHeader.Seal(frame, (FrameType)message.Type, (byte)flags, in slots);
    }

    /// <param name="payload">Checked already; what is returned points into it.</param>
    /// <param name="entries">Reused: holds the returned message's entries until the next call.</param>
    /// <exception cref="PeerProtocolException">Not what <see cref="Encode"/> writes.</exception>
    public static Message Decode(
        in PeerFrameHeader header, ReadOnlyMemory<byte> payload, ulong from, ulong to, ref LogEntry[] entries)
    {
        if ((header.Flags & ~(RejectFlag | ForceFlag)) != 0)
        {
            throw new PeerProtocolException("a message with unknown flags");
        }

        var type = (MessageType)header.Type;
        var count = 0;
        if (type == MessageType.Append)
        {
            count = DecodeEntries(payload, ref entries);
        }
        else if (type != MessageType.InstallSnapshot && !payload.IsEmpty)
        {
            throw new PeerProtocolException("a message with a payload where there is none");
        }

        return new Message
        {
            Type = type,
            From = from,
            To = to,
            Term = header.Slots[0],
            Entry = new EntryId(header.Slots[1], header.Slots[2]),
            Commit = header.Slots[3],
            ReadRound = header.Slots[4],
            Hint = new EntryId(header.Slots[5], header.Slots[6]),
            Context = header.Slots[7],
            Reject = (header.Flags & RejectFlag) != 0,
            Force = (header.Flags & ForceFlag) != 0,
            Membership = type == MessageType.InstallSnapshot ? payload : default,
            Entries = entries.AsMemory(0, count),
        };
    }

    public static bool IsMessage(FrameType type) =>
        (MessageType)type is >= MessageType.PreVote and <= MessageType.TransferLeader;

    private static int DecodeEntries(ReadOnlyMemory<byte> payload, ref LogEntry[] entries)
    {
        var count = 0;
        while (!payload.IsEmpty)
        {
            var source = payload.Span;
            if (source.Length < EntryHeaderBytes)
            {
                throw new PeerProtocolException("a broken entry");
            }

            var bytes = BinaryPrimitives.ReadInt32LittleEndian(source[16..]);
            var kind = BinaryPrimitives.ReadUInt32LittleEndian(source[20..]);
            if (bytes < 0 || bytes > source.Length - EntryHeaderBytes
                || kind is < (uint)EntryKind.Normal or > (uint)EntryKind.Configuration)
            {
                throw new PeerProtocolException("a broken entry");
            }

            if (count == entries.Length)
            {
                Array.Resize(ref entries, Math.Max(16, count * 2));
            }

            var id = new EntryId(BinaryPrimitives.ReadUInt64LittleEndian(source), BinaryPrimitives.ReadUInt64LittleEndian(source[8..]));
            entries[count++] = new LogEntry(id, (EntryKind)kind, payload.Slice(EntryHeaderBytes, bytes));
            payload = payload[(EntryHeaderBytes + bytes)..];
        }

        return count;
    }
}
