namespace KvNode.Raft.Core;

/// <summary>How a change is carried through.</summary>
internal enum ChangeTransition : byte
{
    /// <summary>Directly when at most one voter changes, else joint and left by itself.</summary>
    Auto = 0,

    /// <summary>Joint, left by itself.</summary>
    JointImplicit = 1,

    /// <summary>Joint until an empty change leaves it.</summary>
    JointExplicit = 2,
}

/// <summary>One node's part of a change. PERSISTED in entries.</summary>
/// <param name="Address">Where the node is reached; empty where the kind needs none.</param>
internal readonly record struct NodeChange(MembershipChangeKind Kind, ulong NodeId, string Address);

/// <summary>The payload of a <see cref="EntryKind.Configuration"/> entry. No changes: leave the joint configuration.</summary>
internal sealed record ConfigurationChange(ChangeTransition Transition, IReadOnlyList<NodeChange> Changes)
{
    public static ConfigurationChange LeaveJoint { get; } = new(ChangeTransition.Auto, []);

    public byte[] Encode() => throw new NotSupportedException();

    /// <exception cref="FormatException">Not what <see cref="Encode"/> makes.</exception>
    public static ConfigurationChange Decode(ReadOnlySpan<byte> bytes) => throw new NotSupportedException();
}
