namespace KvNode.Testing.Linearizability;

/// <summary>
/// An operation in the form the search works with: what must hold of the state when it takes effect, and what it does
/// to the state. Keys are indices into the keys of its group, values are numbers a key has of its own.
/// </summary>
internal sealed class Step
{
    /// <summary>The key is not there.</summary>
    public const int Absent = 0;

    /// <summary>The key has a value that no operation ever returned; all such values are one.</summary>
    public const int Unseen = 1;

    /// <summary>The first number of a value that some operation returned.</summary>
    public const int FirstSeen = 2;

    /// <summary>As a requirement: any value will do.</summary>
    public const int Present = -1;

    public required Operation Operation { get; init; }

    /// <summary>
    /// The interval in which it takes effect. Narrower than the operation's own where a read proves more: who wrote a value
    /// took effect before the first read of it returned, who read it after its writer was called.
    /// </summary>
    public long CalledAt { get; set; }

    /// <inheritdoc cref="CalledAt"/>
    /// <remarks><see cref="Operation.Never"/>: it need not take effect at all.</remarks>
    public long ReturnedAt { get; set; }

    /// <summary>What these keys must be, each a value's number or <see cref="Present"/>.</summary>
    public (int Key, int Value)[] Requirements { get; set; } = [];

    /// <summary>How many of <see cref="CountedKeys"/> must be there; -1 when nobody counted.</summary>
    public long Count { get; set; } = -1;

    /// <summary>Each key once.</summary>
    public int[] CountedKeys { get; set; } = [];

    /// <summary>What these keys become, in order. Empty: it only reads.</summary>
    public (int Key, int Value)[] Effects { get; set; } = [];

    /// <summary>
    /// An earlier operation of the same client that is known to have been executed: it took effect before this one, also
    /// when both were in flight at once. Null: none in this group of keys.
    /// </summary>
    public Step? Predecessor { get; set; }

    /// <summary>Steps of unknown outcome with equal numbers do the same; -1 for all others.</summary>
    public int Twin { get; set; } = -1;
}

/// <summary>Operations of a history that share keys, directly or through others; no other operation touches these.</summary>
internal sealed class StepGroup
{
    public required List<Step> Steps { get; init; }

    /// <summary>Their names; a key's number is its place here.</summary>
    public required string[] Keys { get; init; }

    /// <summary>Numbers of values of each key: 0 up to this, exclusive.</summary>
    public required int[] ValueCounts { get; init; }

    /// <summary>By key and value's number: whether exactly one operation wrote it.</summary>
    public required bool[][] HasOneWriter { get; init; }
}

/// <summary>A result that no order can explain, seen without any search.</summary>
internal sealed class ImpossibleResultException(string reason, params Operation[] operations) : Exception(reason)
{
    public Operation[] Operations { get; } = operations;
}
