namespace KvNode.Testing;

/// <summary>The LD_PRELOAD libraries of tests/faults, compiled once per run.</summary>
public static class Shim
{
    private static readonly TempDirectory Built = new("shim");
    private static readonly Lazy<string> FaultLibrary = new(() => Compile("kvfault"));
    private static readonly Lazy<string> PowerLossLibrary = new(() => Compile("powerloss"));

    static Shim() => AppDomain.CurrentDomain.ProcessExit += static (_, _) => Built.Dispose();

    public static string Fault => FaultLibrary.Value;

    public static string PowerLoss => PowerLossLibrary.Value;

    private static string Compile(string name)
    {
        var library = Built.Sub(name + ".so");
        var source = Path.Combine(Repository.Root, "tests", "faults", name + ".c");
        _ = Tool.RunOk("gcc", ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", library, source, "-ldl"]);
        return library;
    }
}

/// <summary>Switches disk faults of a node under kvfault on and off while it runs.</summary>
public sealed class FaultControl
{
    private readonly string _control;
    private readonly string _log;

    /// <param name="directory">Where the control file goes; outside the node's directory.</param>
    /// <param name="target">Only files whose path begins with this fail.</param>
    /// <param name="thread">Only calls on threads of this name fail; null: on all.</param>
    public FaultControl(TempDirectory directory, string target, string? thread = null)
    {
        _control = directory.Sub("faults");
        _log = directory.Sub("faults.log");
        File.WriteAllText(_control, "");
        var environment = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["LD_PRELOAD"] = Shim.Fault,
            ["KVFAULT"] = _control,
            ["KVFAULT_DIR"] = target,
            ["KVFAULT_LOG"] = _log,
        };
        if (thread is not null)
        {
            environment["KVFAULT_THREAD"] = thread;
        }

        Environment = environment;
    }

    /// <summary>For the node's process.</summary>
    public IReadOnlyDictionary<string, string> Environment { get; }

    /// <summary>Calls that failed so far, with their moment in Stopwatch ticks (both are CLOCK_MONOTONIC in ns).</summary>
    public (string Call, long At)[] Failures => File.Exists(_log)
        ? [.. File.ReadAllLines(_log).Select(static line => line.Split(' ')).Select(static words => (words[0], long.Parse(words[1])))]
        : [];

    /// <summary>Puts these faults in place of those before; <c>""</c> heals. In force within 20 ms.</summary>
    public void Set(string faults)
    {
        // Renamed into place: the reader never sees half a word.
        var aside = _control + ".new";
        File.WriteAllText(aside, faults);
        File.Move(aside, _control, overwrite: true);
    }
}
