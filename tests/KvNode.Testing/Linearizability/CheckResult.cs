namespace KvNode.Testing.Linearizability;

/// <summary>What the checker found.</summary>
public enum Verdict
{
    /// <summary>There is an order of the operations that explains every result.</summary>
    Linearizable,

    /// <summary>There is none.</summary>
    Violation,

    /// <summary>The limits ended the search: nothing is known.</summary>
    Undecided,
}

/// <summary>How much a check may cost.</summary>
public sealed record CheckLimits
{
    /// <summary>
    /// Configurations (a set of operations done, and the state they leave) remembered for one group of keys, at 16 bytes
    /// each, twice that while the table grows. Deterministic, unlike a time.
    /// </summary>
    public int ConfigurationsMax { get; init; } = 4_000_000;

    /// <summary>Steps of the search for one group of keys.</summary>
    public long StepsMax { get; init; } = 200_000_000;

    /// <summary>Further steps spent on making a violation's explanation small: about a second.</summary>
    public long ExplanationStepsMax { get; init; } = 5_000_000;
}

/// <summary>A checked history.</summary>
/// <param name="Verdict">A violation anywhere wins over undecided, undecided over linearizable.</param>
/// <param name="Explanation">For people; empty when linearizable.</param>
/// <param name="Culprits">
/// Of a violation: operations whose results contradict each other, in the order of their calls, together with whatever
/// the operations of unknown outcome may have done.
/// </param>
/// <param name="Configurations">Configurations visited, all groups together: the cost.</param>
public sealed record CheckResult(
    Verdict Verdict, string Explanation, IReadOnlyList<Operation> Culprits, long Configurations);
