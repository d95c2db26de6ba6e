namespace KvNode.Testing;

/// <summary>How long the open-ended tests run.</summary>
public static class Soak
{
    /// <summary>Set by tests/soak.sh: minutes for each open-ended test.</summary>
    public const string Variable = "KVNODE_SOAK_MINUTES";

    public static bool IsOn => Environment.GetEnvironmentVariable(Variable) is { Length: > 0 };

    public static TimeSpan Time(TimeSpan otherwise) =>
        Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } minutes
            ? TimeSpan.FromMinutes(double.Parse(minutes))
            : otherwise;
}
