using System.Buffers.Binary;
using System.Text;
using KvNode.Raft.Transport;

namespace KvNode.Raft.Engine;

/// <summary>What one node asks of another beside the messages of the core. ON THE WIRE.</summary>
internal enum AskKind : byte
{
    /// <summary>Option: the <see cref="AskOptions"/>; Node and First: who asks, and where it is. Have me as a member.</summary>
    Join = 1,

    /// <summary>Option: a <see cref="MembershipChangeKind"/>; Node, or First: an address.</summary>
    Change = 2,

    /// <summary>First: id or address of who shall lead, empty for any.</summary>
    Transfer = 3,

    /// <summary>First: id or address of who goes; Second: address of who comes.</summary>
    Replace = 4,

    /// <summary>By a leader, of a node that is in no cluster, or of a learner that is to become a voter. Option: the <see cref="AskOptions"/>; Node: the cluster; First: the
    /// leader's address. Be a member of it.</summary>
    Invite = 5,
}

[Flags]
internal enum AskOptions : byte
{
    None = 0,

    /// <summary>The node has been a member: when it is none, it was removed.</summary>
    WasMember = 1,

    /// <summary>The node is to become a voter.</summary>
    ToVote = 2,
}

/// <summary>How it was answered. ON THE WIRE.</summary>
internal enum AskReply : byte
{
    Done = 1,

    /// <summary>The text is the leader's address, empty when unknown.</summary>
    AskLeader = 2,

    /// <summary>The text says why.</summary>
    Refused = 3,

    /// <summary>Under way: ask again. A text says what is in the way.</summary>
    Pending = 4,

    /// <summary>The node that asks was removed from the cluster. To an invitation: the node has been a member, and if it is
    /// none, it was removed.</summary>
    Removed = 5,
}

/// <summary>The body of such a request: u8 option, u64 node, two texts of u16 length and UTF-8. Little-endian.</summary>
internal readonly record struct ClusterAsk(AskKind Kind, byte Option, ulong Node, string First, string Second = "")
{
    private const int FixedBytes = 9;

    public ControlRequest ToRequest(ulong from, bool isMember)
    {
        var (first, second) = (Encoding.UTF8.GetBytes(First), Encoding.UTF8.GetBytes(Second));
        var body = new byte[FixedBytes + (2 * sizeof(ushort)) + first.Length + second.Length];
        body[0] = Option;
        BinaryPrimitives.WriteUInt64LittleEndian(body.AsSpan(1), Node);
        var at = FixedBytes;
        foreach (var text in (ReadOnlySpan<byte[]>)[first, second])
        {
            BinaryPrimitives.WriteUInt16LittleEndian(body.AsSpan(at), (ushort)text.Length);
            text.CopyTo(body, at + sizeof(ushort));
            at += sizeof(ushort) + text.Length;
        }

        return new ControlRequest((byte)Kind, body, from, isMember);
    }

    public static bool TryRead(ControlRequest request, out ClusterAsk ask)
    {
        ask = default;
        var body = request.Body.Span;
        if (body.Length < FixedBytes || request.Kind is < (byte)AskKind.Join or > (byte)AskKind.Invite)
        {
            return false;
        }

        var texts = body[FixedBytes..];
        if (!TryText(ref texts, out var first) || !TryText(ref texts, out var second) || !texts.IsEmpty)
        {
            return false;
        }

        ask = new ClusterAsk(
            (AskKind)request.Kind, body[0], BinaryPrimitives.ReadUInt64LittleEndian(body[1..]), first, second);
        return true;
    }

    private static bool TryText(ref ReadOnlySpan<byte> bytes, out string text)
    {
        text = "";
        if (bytes.Length < sizeof(ushort)
            || BinaryPrimitives.ReadUInt16LittleEndian(bytes) is var length && bytes.Length < sizeof(ushort) + length)
        {
            return false;
        }

        text = Encoding.UTF8.GetString(bytes.Slice(sizeof(ushort), length));
        bytes = bytes[(sizeof(ushort) + length)..];
        return true;
    }
}
