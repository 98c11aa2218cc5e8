//! A parked zone: every name in it answers TXT with the parameters, and no data for every other type.

const gp = @import("ghostplane");

comptime {
    gp.resolver(resolve);
}

fn resolve(question: gp.Question) gp.Outcome {
    if (question.rr_type != gp.rrtype.TXT) return gp.noData();
    return gp.synthesised(question, 3600, &.{gp.txt(gp.registry.parameters())});
}
