namespace KvNode.Raft;

/// <summary>Bugs that the simulation's build of the sources has on demand: the proof that the simulation can see.</summary>
internal enum Bug
{
    None,
}

/// <summary>Which of them is alive. Set between runs only.</summary>
internal static class Planted
{
    public static Bug Bug { get; set; }

    public static bool Is(Bug bug) => Bug == bug;
}
