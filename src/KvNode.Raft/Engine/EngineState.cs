using System.Buffers.Binary;
using KvNode.Raft.Core;

namespace KvNode.Raft.Engine;

/// <summary>
/// What the engine itself replicates and keeps with the state machine's state: the configuration, and how far each node's
/// batches have been executed. Changed only by applying entries, so it is the same on every node at the same index.
/// </summary>
/// <remarks>
/// <code>
/// 0 u8 version (1)   1 u8 zero   2 u16 sessions   4 u32 membership bytes   8 membership
/// then per session: u64 node   u64 incarnation   u64 last sequence   u64 index of its last batch
/// </code>
/// Little-endian, sessions by node id. Used by whoever applies; one thread at a time.
/// </remarks>
internal sealed class EngineState
{
    private const byte Version = 1;
    private const int HeaderBytes = 8;
    private const int SessionBytes = 32;

    // A node that left keeps its session, for late copies of its batches, until this many newer ones exist.
    private const int SessionsMax = 256;

    // By node id; a cluster has a handful.
    private readonly List<Session> _sessions = [];
    private byte[] _encoded = [];
    private byte[] _membershipBytes = Membership.Empty.Encode();

    private readonly record struct Session(ulong Node, ulong Incarnation, ulong Sequence, ulong Index);

    public Membership Membership { get; private set; } = Membership.Empty;

    /// <exception cref="FormatException">Not what <see cref="Encode"/> makes.</exception>
    public static EngineState Decode(ReadOnlySpan<byte> bytes)
    {
        var state = new EngineState();
        if (bytes.IsEmpty)
        {
            return state;
        }

        if (bytes.Length < HeaderBytes || bytes[0] != Version)
        {
            throw new FormatException("the engine's part of the state has a format that this program does not know");
        }

        var sessions = BinaryPrimitives.ReadUInt16LittleEndian(bytes[2..]);
        var membershipBytes = BinaryPrimitives.ReadInt32LittleEndian(bytes[4..]);
        if (membershipBytes < 0 || HeaderBytes + (long)membershipBytes + (sessions * SessionBytes) != bytes.Length)
        {
            throw new FormatException("the engine's part of the state has a wrong length");
        }

        state.SetMembership(Membership.Decode(bytes.Slice(HeaderBytes, membershipBytes)));
        for (var at = HeaderBytes + membershipBytes; at < bytes.Length; at += SessionBytes)
        {
            state._sessions.Add(new Session(
                BinaryPrimitives.ReadUInt64LittleEndian(bytes[at..]),
                BinaryPrimitives.ReadUInt64LittleEndian(bytes[(at + 8)..]),
                BinaryPrimitives.ReadUInt64LittleEndian(bytes[(at + 16)..]),
                BinaryPrimitives.ReadUInt64LittleEndian(bytes[(at + 24)..])));
        }

        return state;
    }

    public void SetMembership(Membership membership)
    {
        Membership = membership;
        _membershipBytes = membership.Encode();
    }

    /// <summary>True exactly once for each batch; false for a copy, and for one that a later one of its node has passed.</summary>
    public bool TryExecute(in SubBatch batch, ulong index)
    {
        var at = Find(batch.Origin);
        var next = new Session(batch.Origin, batch.Incarnation, batch.Sequence, index);
        if (at < 0)
        {
            _sessions.Insert(~at, next);
            if (_sessions.Count > SessionsMax)
            {
                RemoveOldest();
            }

            return true;
        }

        var last = _sessions[at];
#if PLANTED_BUGS
        if (Planted.Is(Bug.ExecutesCopies))
        {
            _sessions[at] = next;
            return true;
        }
#endif
        if (batch.Incarnation < last.Incarnation
            || (batch.Incarnation == last.Incarnation && batch.Sequence <= last.Sequence))
        {
            return false;
        }

        _sessions[at] = next;
        return true;
    }

    /// <summary>The highest executed sequence of a node's incarnation; 0 for none.</summary>
    public ulong Executed(ulong node, ulong incarnation)
    {
        var at = Find(node);
        return at >= 0 && _sessions[at].Incarnation == incarnation ? _sessions[at].Sequence : 0;
    }

    /// <summary>Valid until the next call.</summary>
    public ReadOnlySpan<byte> Encode()
    {
        var length = HeaderBytes + _membershipBytes.Length + (_sessions.Count * SessionBytes);
        if (_encoded.Length < length)
        {
            _encoded = new byte[length * 2];
        }

        var bytes = _encoded.AsSpan(0, length);
        bytes[0] = Version;
        bytes[1] = 0;
        BinaryPrimitives.WriteUInt16LittleEndian(bytes[2..], (ushort)_sessions.Count);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[4..], _membershipBytes.Length);
        _membershipBytes.CopyTo(bytes[HeaderBytes..]);
        var at = HeaderBytes + _membershipBytes.Length;
        foreach (var session in _sessions)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[at..], session.Node);
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[(at + 8)..], session.Incarnation);
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[(at + 16)..], session.Sequence);
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[(at + 24)..], session.Index);
            at += SessionBytes;
        }

        return bytes;
    }

    private void RemoveOldest()
    {
        var oldest = 0;
        for (var i = 1; i < _sessions.Count; i++)
        {
            if (_sessions[i].Index < _sessions[oldest].Index)
            {
                oldest = i;
            }
        }

        _sessions.RemoveAt(oldest);
    }

    // As List.BinarySearch: the complement of where it belongs when it is not there.
    private int Find(ulong node)
    {
        for (var i = 0; i < _sessions.Count; i++)
        {
            if (_sessions[i].Node >= node)
            {
                return _sessions[i].Node == node ? i : ~i;
            }
        }

        return ~_sessions.Count;
    }
}
