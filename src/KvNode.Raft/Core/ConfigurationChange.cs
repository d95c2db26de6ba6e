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

    private const byte FormatVersion = 1;

    /// <summary>Bytes, little-endian: version u8 = 1; transition u8; count u32; then each part as kind u8, node id u64,
    /// address (length u16 and UTF-8). PERSISTED.</summary>
    public byte[] Encode()
    {
        var writer = new CoreWriter();
        writer.Byte(FormatVersion);
        writer.Byte((byte)Transition);
        writer.Count(Changes.Count);
        foreach (var change in Changes)
        {
            writer.Byte((byte)change.Kind);
            writer.Number(change.NodeId);
            writer.Text(change.Address);
        }

        return writer.ToArray();
    }

    /// <exception cref="FormatException">Not what <see cref="Encode"/> makes.</exception>
    public static ConfigurationChange Decode(ReadOnlySpan<byte> bytes)
    {
        var reader = new CoreReader(bytes);
        reader.Expect(reader.Byte() == FormatVersion, "a configuration change of another version");
        var transition = reader.Byte();
        reader.Expect(transition <= (byte)ChangeTransition.JointExplicit, "an unknown transition");
        const int PartBytesMin = 11;
        var changes = new NodeChange[reader.Count(PartBytesMin)];
        foreach (ref var change in changes.AsSpan())
        {
            var kind = reader.Byte();
            reader.Expect(kind <= (byte)MembershipChangeKind.Remove, "an unknown kind of change");
            change = new NodeChange((MembershipChangeKind)kind, reader.Number(), reader.Text());
        }

        reader.End();
        return new ConfigurationChange((ChangeTransition)transition, changes);
    }
}
